"""The live test: rent the cheapest thing for real, log in as people would, give it back.

Everything goes the ordinary way: asks.launch, the lifecycle, asks.stop. Where no worker runs,
`Engine` carries the lifecycle on from here. What happened is read from the rows afterwards.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from providers import gpus, jobs, registry, waits
from providers.models import Offer, ProviderHealth

from . import asks, identity, limits, market, reconcile, slices, ssh, sweep, vault
from .calls import allow_loopback
from .models import Attempt, Session, Slot
from .money import is_billing, price
from .states import Fallback, State

USERNAME = "livetest"
SESSIONS = 3  # per marketplace while its stock is stale, each with the lifecycle's own tries
MACHINES = 2  # per marketplace that were rented and failed: a third would only cost more
LOGIN_REST = 15  # seconds between tries, as long as a refused key means nothing yet
HOURS = 1  # the session ends by itself after that, whatever becomes of this process
DISK_GB = 16
PAUSE = 0.5  # seconds
READY = 120  # seconds until a marketplace must have been read once
RESERVE = timedelta(minutes=5)  # of the present rate: what giving back may still cost
LONGEST, LEAST = 3600, 300  # seconds for one half of a trial: scaled, but never below the least


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a person lets the test rent and spend. USD; `gpu` is a canonical name or empty."""

    max_price: Decimal
    max_spend: Decimal
    gpu: str = ""


@dataclass(frozen=True, kw_only=True)
class Login:
    """One account, by gpubroker's key or, `by_person`, by the key a person would download."""

    account: str
    by_person: bool
    check: ssh.Check
    tries: int

    @property
    def ok(self) -> bool:
        return self.check.stage == "gpu"


@dataclass(kw_only=True)
class Trial:
    """One session, or the reason why there is none."""

    provider: str
    session: Session | None = None
    logins: list[Login] = field(default_factory=list)
    refused: str = ""

    def passed(self) -> bool:
        """Ran, let everybody in, and is proven gone."""
        return bool(
            self.session
            and self.session.state == State.ENDED
            and self.session.verified_at
            and self.logins
            and all(login.ok for login in self.logins)
            and all(attempt.is_closed for attempt in self.session.attempts.all())
        )


class Cut(Exception):
    """The test ends early; the message says why."""


class Engine:
    """Lets the lifecycle go on: the worker's own slices or, where none beats, turns from here."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(slices.THREADS, "live-test", slices.forbid_database)
        self.work = slices.Work(self.pool, (reconcile, sweep, jobs))

    def prepare(self) -> None:
        identity.ensure()
        jobs.ensure_rows()

    def pause(self) -> None:
        if worker_beats():
            self.work.finish_some(PAUSE)
        else:
            self.work.turns_until(time.monotonic() + PAUSE)

    def close(self) -> None:
        self.work.drain(slices.DRAIN)
        self.pool.shutdown(wait=False, cancel_futures=True)


def worker_beats() -> bool:
    return Slot.objects.filter(beat_at__gt=timezone.now() - slices.DEAD).exists()


class LiveTest:
    def __init__(self, allowance: Allowance, engine: Engine, say: Callable[[str], None]) -> None:
        self.allowance, self.engine, self.say = allowance, engine, say
        self.owner = owner()
        self.started_at = timezone.now()
        self.trials: list[Trial] = []
        self.cut = ""  # why it ended early
        self.interrupted = False  # set by a signal: seen at the next pause
        self.told: tuple[object, ...] = ()

    def run(self, providers: Sequence[str]) -> None:
        """Always comes back with every session ended, or says which one is not."""
        self.engine.prepare()
        try:
            for provider in providers:
                self.examine(provider)
        except Cut as reason:
            self.cut = str(reason)
            self.say(f"Ending early: {reason}")
        finally:
            self.clean_up()
            self.engine.close()

    def examine(self, provider: str) -> None:
        """Trials until one passes; what another offer cannot change ends them at once."""
        for _ in range(SESSIONS):
            trial = Trial(provider=provider)
            self.trials.append(trial)
            self.attempt(trial)
            if trial.passed() or trial.refused or hopeless(trial):
                return
            if sum(each.provider == provider and rented(each) for each in self.trials) == MACHINES:
                return

    def attempt(self, trial: Trial) -> None:
        trial.refused = self.wait_until_read(trial.provider)
        offer = None if trial.refused else self.cheapest(trial.provider)
        if offer is None:
            trial.refused = trial.refused or f"no offer up to ${self.allowance.max_price}/h"
            self.say(f"{registry.title(trial.provider)}: {trial.refused}")
            return
        try:
            trial.session = asks.launch(self.owner, self.order(offer))
        except (asks.LaunchRefused, limits.TooMany) as error:
            trial.refused = error.message
            return
        session = trial.session
        if self.wait(session, State.RUNNING, State.ENDED) and session.state == State.RUNNING:
            trial.logins = self.log_in(session)
        self.give_back(session)

    def give_back(self, session: Session) -> None:
        asks.stop(session, self.owner)
        if not self.wait(session, State.ENDED, spend=False):
            self.say(f"{session.code} is NOT proven gone; it may still cost money.")

    # -- what to rent

    def wait_until_read(self, provider: str) -> str:
        """Empty when the marketplace can be tested, else why not."""
        end = time.monotonic() + READY
        while (problem := unread(provider)) and time.monotonic() < end:
            self.pause()
        return problem

    def cheapest(self, provider: str) -> Offer | None:
        disk, ceiling = disk_gb(provider), self.allowance.max_price
        offers = market.rentable(provider, 1, disk, ceiling, timezone.now())
        wanted = offers.filter(gpu_name=self.allowance.gpu) if self.allowance.gpu else offers
        return wanted.order_by("total", "pk").first()

    def order(self, offer: Offer) -> asks.Order:
        self.require_budget(self.allowance.max_price * hours(RESERVE))
        return asks.Order(
            idempotency_key=f"livetest-{uuid4()}",
            provider=offer.provider,
            offer_id=offer.offer_id,
            image=registry.capabilities(offer.provider).default_image,
            disk_gb=disk_gb(offer.provider),
            hours=HOURS,
            max_price_per_hour=self.allowance.max_price,
            fallback=Fallback.SAME_GPU if self.allowance.gpu else Fallback.MEMORY,
            generate_key=True,
        )

    # -- waiting

    def wait(self, session: Session, *states: State, spend: bool = True) -> bool:
        """False = not in time. The lifecycle's own deadlines are shorter."""
        end = time.monotonic() + max(LEAST, waits.seconds(LONGEST))
        while time.monotonic() < end:
            session.refresh_from_db()
            self.tell(session)
            if session.state in states:
                return True
            if spend:
                self.require_budget(Decimal(0))
            self.pause(heed=spend)
        return False

    def pause(self, heed: bool = True) -> None:
        if heed and self.interrupted:
            raise Cut("interrupted")
        self.engine.pause()

    def require_budget(self, more: Decimal) -> None:
        """Raises Cut when the limit is near: what runs must still be given back within it."""
        attempts = list(Attempt.objects.filter(session__in=self.sessions()))
        now = timezone.now()
        spent = sum((attempt.cost(now) for attempt in attempts), Decimal(0))
        rate = sum((price(attempt) for attempt in attempts if is_billing(attempt)), Decimal(0))
        if spent + rate * hours(RESERVE) + more > self.allowance.max_spend:
            raise Cut(
                f"${spent:.4f} are spent, and the limit of ${self.allowance.max_spend} is near"
            )

    def sessions(self) -> list[Session]:
        return [trial.session for trial in self.trials if trial.session]

    def tell(self, session: Session) -> None:
        attempt = session.attempt
        now = (session.pk, session.state, attempt and attempt.number)
        if now != self.told:
            self.told = now
            offer = f", offer {attempt.offer_id}" if attempt else ""
            words = session.reason_text or session.reason
            why = f" ({words})" if words and session.state == State.STOPPING else ""
            title = registry.title(session.provider)
            self.say(f"{title} {session.code}: {session.get_state_display()}{offer}{why}")

    # -- inside

    def log_in(self, session: Session) -> list[Login]:
        """Each expected account by our own key, then once more as the person would."""
        ours = vault.unseal(session.checker_key, vault.checker(session.pk))
        persons = vault.unseal(session.generated_key, vault.generated(session.pk))
        users = registry.capabilities(session.provider).ssh_users
        logins = [self.visit(session, user, ours, by_person=False) for user in users]
        shown = way_in(session).get("user", users[0])
        return [*logins, self.visit(session, shown, persons, by_person=True)]

    def visit(self, session: Session, user: str, private_pem: str, by_person: bool) -> Login:
        way = way_in(session)
        target = ssh.Target(
            host=way.get("host", ""),
            port=way.get("port", 0),
            user=user,
            private_pem=private_pem,
            host_key=session.host_key,
            allow_loopback=allow_loopback(),
        )
        tries = registry.capabilities(session.provider).key_grace_seconds // LOGIN_REST
        for number in range(1, tries + 1):
            login = Login(account=user, by_person=by_person, check=ssh.check(target), tries=number)
            if login.ok or login.check.host_key_changed:
                break
            self.rest(waits.seconds(LOGIN_REST))
        kind = "a person's key" if by_person else "our key"
        self.say(f"  login as {user} by {kind}: {'ok' if login.ok else login.check.message}")
        return login

    def rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.require_budget(Decimal(0))
            self.pause()

    # -- the end

    def clean_up(self) -> None:
        """All of them are asked first, so that none waits for another."""
        left = [session for session in self.sessions() if session.state != State.ENDED]
        for session in left:
            asks.stop(session, self.owner)
        for session in left:
            self.give_back(session)


def owner() -> AbstractUser:
    """Nobody can sign in as this one."""
    users = get_user_model().objects
    found, made = users.get_or_create(username=USERNAME, defaults={"is_active": False})
    if made:
        found.set_unusable_password()
        found.save(update_fields=["password"])
    return found


def unread(provider: str) -> str:
    health = ProviderHealth.objects.filter(provider=provider).first()
    if health and health.auth_error:
        return f"the key is not accepted: {health.auth_error}"
    if not health or not health.account_id:
        return "the account could not be read"
    return "" if health.offers_read_at else "no offers could be read"


def hopeless(trial: Trial) -> bool:
    """Not the offer's fault: another one would meet the same."""
    return bool(trial.session and trial.session.reason in ("auth", "no_funds", "invalid"))


def rented(trial: Trial) -> bool:
    return bool(trial.session and trial.session.attempts.exclude(instance_id="").exists())


def way_in(session: Session) -> dict:
    """The address that worked for the lifecycle."""
    attempt = session.attempt
    ways = attempt.endpoints if attempt else []
    return session.ssh_way or (ways[0] if ways else {})


def disk_gb(provider: str) -> int:
    return max(DISK_GB, registry.capabilities(provider).offer_min_disk_gb)


def hours(span: timedelta) -> Decimal:
    return Decimal(span.total_seconds()) / 3600


def gpu_name(wanted: str) -> str:
    """The canonical name; "" stays empty."""
    return gpus.canonical(wanted) if wanted else ""
