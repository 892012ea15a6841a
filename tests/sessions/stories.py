"""What the tests of sessions tell in common: an order, and a session led to some point."""

from decimal import Decimal
from uuid import uuid4

from providers.base import CreateOutcome, CreateResult
from providers.models import Offer
from sessions import asks
from sessions.asks import Order
from sessions.models import Attempt, AuditEvent, Session
from sessions.states import State
from tests.factories import make_offer
from tests.sessions.market_double import World


def order(offer: Offer, **fields) -> Order:
    values = {
        "idempotency_key": str(uuid4()),
        "provider": "vastai",
        "offer_id": offer.offer_id,
        "image": "nvidia/cuda:12.4.1-devel-ubuntu22.04",
        "disk_gb": 20,
        "hours": 4,
        "max_price_per_hour": Decimal("0.50"),
        "public_keys": ["ssh-ed25519 AAAAperson"],
    }
    return Order(**(values | fields))


def launch(world: World, owner, **fields) -> Session:
    offer = fields.pop("offer", None) or make_offer()
    return asks.launch(owner, order(offer, **fields), now=world.now)


def running(world: World, owner, **fields) -> Session:
    return world.until_state(launch(world, owner, **fields), State.RUNNING)


def ended(world: World, session: Session) -> Session:
    world.until_state(session, State.ENDED)
    assert not Attempt.objects.exclude(resolution__in=["gone", "not_created"]).exists()
    return session


def events(session: Session) -> list[str]:
    rows = AuditEvent.objects.filter(session_code=session.code)
    return [e.data["to"] if e.action == "session.state" else e.action for e in rows]


def lost(world: World):
    """The machine exists, the answer does not."""

    def fail(spec):
        world.market.add(spec.label)
        return CreateResult(outcome=CreateOutcome.UNKNOWN, message="502")

    return fail
