"""What every adapter must do, tried against a marketplace over real HTTP."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import ClassVar

import pytest
from django.test import override_settings
from django.utils import timezone

from providers.base import (
    AuthRefused,
    BadResponse,
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    Instance,
    InstanceState,
    LaunchSpec,
    NotSent,
    OfferRecord,
    Provider,
    ProviderError,
    RateLimited,
)

from .simulated import CLOCK, Simulated, eventually, pause

NUMBERS = count(1)
SEEDED = 5  # of the cheapest machines: instances that are seeded stand there
RENTED: set[str] = set()  # machines, also when the stock is read again
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
ZOO = (
    "",
    "my own box",
    "gb1-k3x9w2p7qa-m4n8r2t6v0z1c5d9-1-5f0c91ab",
    "GB1-K3X9W2P7QA-M4N8R2T6V0Z1C5D9-1-5F0C91AB",
    "gb1-k3x9w2p7qa-m4n8r2t6v0z1",
    "<b>bold</b>",
)
C = CreateOutcome


class ProviderContract:
    """Inherit, name the adapter, and give a fixture `simulated`, one a module."""

    adapter: ClassVar[type[Provider]]
    image: ClassVar[str]
    refusals: ClassVar[dict[str, CreateOutcome]]  # fault of a create -> what it means
    partial: ClassVar[tuple[str, ...]]  # faults of a listing that only this marketplace can have
    no_offer: ClassVar[dict[str, object]] = {"offer_id": "../1"}  # what makes a spec senseless

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def fast_clock(cls) -> Iterator[None]:
        with override_settings(TIME_SCALE=CLOCK):
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def stock(cls, fast_clock: None, simulated: Simulated) -> list[OfferRecord]:
        """One offer of each machine, read once: the market is steady."""
        offers = {cls.machine_of(offer): offer for offer in whole_stock(cls.open(simulated.url))}
        return sorted(offers.values(), key=lambda offer: offer.base_price_per_hour)

    @staticmethod
    def machine_of(offer: OfferRecord) -> str:
        """The same for offers of which only one can be rented."""
        return offer.machine_id

    @pytest.fixture
    def provider(self, simulated: Simulated) -> Provider:
        return self.open(simulated.url)

    @pytest.fixture
    def stranger(self, simulated: Simulated) -> Provider:
        return self.open(simulated.url, "nobody-knows-this-key")

    @pytest.fixture
    def absent(self) -> Provider:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        return self.open(f"http://127.0.0.1:{port}")

    @classmethod
    def open(cls, url: str, key: str = "simulated-key-owner") -> Provider:
        return cls.adapter(api_key=key, base_url=url)

    @pytest.fixture(autouse=True)
    def clean_world(self, simulated: Simulated) -> Iterator[None]:
        pause()
        yield
        simulated.lift_faults()
        simulated.clear()

    def spec(self, offer: OfferRecord, **changes: object) -> LaunchSpec:
        values = {
            "label": f"gb1-contract00-test{next(NUMBERS):012}-1-0123abcd",
            "offer_id": offer.offer_id,
            "gpu_name_raw": offer.gpu_name_raw,
            "gpu_count": offer.gpu_count,
            "image": self.image,
            "disk_gb": max(10, self.adapter.capabilities.offer_min_disk_gb),
            "ssh_public_keys": (KEY,),
            "expires_at": timezone.now() + timedelta(hours=4),
            "details": offer.details,
        }
        return LaunchSpec(**values | changes)

    @pytest.fixture(autouse=True)
    def one_stock(self, stock: list[OfferRecord]) -> None:
        self.stock = stock

    def fresh_offer(self) -> OfferRecord:
        """On a machine that no test of this process has rented yet: something may linger there."""
        free = self.stock[SEEDED:]
        offer = next(o for o in free if self.machine_of(o) not in RENTED)
        RENTED.add(self.machine_of(offer))
        return offer

    def create(self, provider: Provider) -> tuple[LaunchSpec, CreateResult]:
        spec = self.spec(self.fresh_offer())
        result = provider.create(spec)
        pause()
        return spec, result

    def running(self, provider: Provider) -> tuple[LaunchSpec, Instance]:
        spec, result = self.create(provider)
        assert result.outcome == C.CREATED, result

        def look() -> Instance | None:
            found = provider.get_instance(result.instance_id)
            up = found and found.state == InstanceState.RUNNING and found.endpoints
            return found if up else None

        found = eventually(look)
        pause()
        return spec, found

    # the good days

    def test_the_account_has_an_id_and_a_balance(self, provider: Provider) -> None:
        account = provider.account()
        assert account.account_id and account.balance > 0

    def test_a_key_that_is_not_accepted_has_its_own_error(
        self, simulated: Simulated, stranger: Provider
    ) -> None:
        for call in (stranger.account, stranger.list_instances):
            with pytest.raises(AuthRefused):
                call()
            pause()
        assert stranger.destroy("31255041").outcome == DestroyOutcome.RETRY

    def test_the_stock_is_priced(self, provider: Provider) -> None:
        offers = whole_stock(provider)
        assert len({offer.offer_id for offer in offers}) > 10
        for offer in offers:
            assert 0 < offer.base_price_per_hour <= 200 and offer.gpu_memory_mb > 0
            assert offer.provider == provider.name and not offer.interruptible

    def test_an_instance_lives_and_dies(self, simulated: Simulated, provider: Provider) -> None:
        spec, found = self.running(provider)
        offer = next(o for o in self.stock if o.offer_id == spec.offer_id)
        assert found.label == spec.label and found.endpoints[0].port
        assert found.endpoints[0].user in provider.capabilities.ssh_users
        agreed = offer.base_price_per_hour + spec.disk_gb * offer.disk_price_per_gb_hour
        assert abs(found.price_per_hour - agreed) < Decimal("0.00001")
        listed = provider.list_instances()
        assert [i.instance_id for i in listed.instances] == [found.instance_id]
        assert listed.account_id
        assert provider.destroy(found.instance_id).outcome == DestroyOutcome.ACCEPTED
        pause()
        eventually(lambda: provider.get_instance(found.instance_id) is None)
        assert provider.list_instances().instances == ()
        pause()
        assert provider.destroy(found.instance_id).outcome == DestroyOutcome.NOT_FOUND
        assert len(simulated.wire("create", spec.label)) == 1

    def test_a_key_can_be_attached_again_and_again(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        _, result = self.create(provider)
        if provider.capabilities.attach_key:
            for _ in range(2):
                provider.attach_key(result.instance_id, KEY)
                pause()
        assert any(KEY in key for key in simulated.alive()[0]["keys"])

    def test_every_instance_is_listed_with_its_label_untouched(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        labels = {simulated.seed(label=label): label for label in ZOO}
        labels |= {simulated.seed(label=f"box {n}"): f"box {n}" for n in range(22)}
        listing = provider.list_instances()
        assert {i.instance_id: i.label for i in listing.instances} == labels

    # creates that go wrong

    def test_creates_that_are_refused(self, simulated: Simulated, provider: Provider) -> None:
        offer = self.fresh_offer()
        for fault, outcome in self.refusals.items():
            simulated.fault("create", fault)
            result = provider.create(self.spec(offer))
            assert (fault, result.outcome) == (fault, outcome)
            assert result.message and not result.instance_id
            pause()
        assert simulated.alive() == []

    @pytest.mark.parametrize(
        "fault", ["lost_500", "lost_502", "lost_drop", "lost_hang", "lost_not_json", "cut_body"]
    )
    def test_a_create_with_a_lost_answer_is_unknown_and_can_be_found(
        self, simulated: Simulated, provider: Provider, fault: str
    ) -> None:
        simulated.fault("create", fault)
        spec, result = self.create(provider)
        assert result.outcome == C.UNKNOWN and not result.instance_id
        listing = provider.list_instances()
        assert [i.label for i in listing.instances] == [spec.label]
        assert len(simulated.wire("create", spec.label)) == 1

    @pytest.mark.parametrize(
        "fault", ["http_500", "http_502", "http_504", "drop", "not_json", "empty_body", "redirect"]
    )
    def test_a_create_without_a_clear_answer_is_unknown_too(
        self, simulated: Simulated, provider: Provider, fault: str
    ) -> None:
        simulated.fault("create", fault)
        spec, result = self.create(provider)
        assert result.outcome == C.UNKNOWN
        assert len(simulated.wire("create", spec.label)) == 1

    def test_a_slow_create_is_waited_for(self, simulated: Simulated, provider: Provider) -> None:
        simulated.fault("create", "slow", seconds=CLOCK / 2)
        _, result = self.create(provider)
        assert result.outcome == C.CREATED

    def test_an_offer_that_is_taken_is_gone(self, provider: Provider) -> None:
        offer = self.fresh_offer()
        first = provider.create(self.spec(offer, label="gb1-contract00-one-1-0123abcd"))
        pause()
        second = provider.create(self.spec(offer, label="gb1-contract00-two-1-0123abcd"))
        assert (first.outcome, second.outcome) == (C.CREATED, C.OFFER_GONE)

    def test_nobody_there_means_not_sent(self, absent: Provider, provider: Provider) -> None:
        result = absent.create(self.spec(self.fresh_offer()))
        assert result.outcome == C.NOT_SENT
        with pytest.raises(NotSent):
            absent.list_instances()
        assert absent.destroy("31255041").outcome == DestroyOutcome.RETRY

    # readings that prove nothing

    BROKEN = ("http_500", "http_502", "http_503", "drop", "not_json", "empty_body", "redirect")
    UNBELIEVABLE = ("cut_body", "huge_body", "auth_401", "auth_403", "rate_limited")

    def test_a_listing_is_whole_or_an_error(self, simulated: Simulated, provider: Provider) -> None:
        for n in range(27):
            simulated.seed(label=f"box {n}")
        for fault in (*self.BROKEN, *self.UNBELIEVABLE, *self.partial):
            simulated.fault("list", fault, times=0)
            with pytest.raises(ProviderError):
                provider.list_instances()
            simulated.lift_faults()
            pause()
        assert len(provider.list_instances().instances) == 27

    def test_a_read_never_says_gone_by_mistake(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        instance_id = simulated.seed(label="box")
        for fault in (*self.BROKEN, *self.UNBELIEVABLE):
            simulated.fault("read", fault, times=0)
            with pytest.raises(ProviderError):
                provider.get_instance(instance_id)
            simulated.lift_faults()
            pause()
        assert provider.get_instance(instance_id) is not None

    def test_a_search_is_an_error_rather_than_an_empty_market(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        for fault in (*self.BROKEN, "cut_body", "huge_body"):
            simulated.fault("search", fault)
            with pytest.raises(ProviderError):
                provider.search_offers()
            simulated.lift_faults()
            pause()

    def test_too_often_and_nonsense_have_their_own_errors(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        for fault, error in (("rate_limited", RateLimited), ("huge_body", BadResponse)):
            simulated.fault("search", fault)
            with pytest.raises(error):
                provider.search_offers()
            pause()

    def test_offers_that_cannot_be_believed_are_counted(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        simulated.fault("search", "odd_rows", times=0)
        part = provider.search_offers()
        assert part.dropped > 0
        assert all(0 < offer.base_price_per_hour <= 200 for offer in part.offers)

    def test_another_accounts_listing_carries_its_id(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        ours = provider.list_instances().account_id
        simulated.seed(label="box")
        time.sleep(20 / CLOCK)  # two pieces of evidence are never closer
        simulated.fault("*", "other_account", times=0)
        assert provider.list_instances().account_id != ours

    # destroys that go wrong

    def test_a_destroy_without_a_clear_answer_is_repeated(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        for fault in ("http_500", "lost_502", "drop", "rate_limited", "auth_401", "not_json"):
            instance_id = simulated.seed(label="box")
            simulated.fault("destroy", fault)
            assert provider.destroy(instance_id).outcome == DestroyOutcome.RETRY
            simulated.lift_faults()
            pause()
            again = provider.destroy(instance_id).outcome
            assert again in (DestroyOutcome.ACCEPTED, DestroyOutcome.NOT_FOUND)
            pause()
        assert simulated.alive() == []

    def test_an_accepted_destroy_is_no_proof(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        instance_id = simulated.seed(label="box")
        simulated.fault("destroy", "destroy_ignored")
        assert provider.destroy(instance_id).outcome == DestroyOutcome.ACCEPTED
        pause()
        assert provider.get_instance(instance_id).label == "box"

    def test_ids_that_are_no_ids_never_reach_the_wire(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        for bad in ("", "../1", "1/../2", "1?x", "-1"):
            with pytest.raises(ProviderError):
                provider.get_instance(bad)
            assert provider.destroy(bad).outcome == DestroyOutcome.RETRY
        offer = self.fresh_offer()
        bad_offer = self.spec(offer, label="gb1-contract00-bad-1-0123abcd", **self.no_offer)
        assert provider.create(bad_offer).outcome == C.INVALID
        assert simulated.wire("create", bad_offer.label) == []


def whole_stock(provider: Provider) -> list[OfferRecord]:
    """Part by part; an offer on the edge of two parts comes twice."""
    found: dict[str, OfferRecord] = {}
    after = ""
    while True:
        part = provider.search_offers(after)
        found |= {offer.offer_id: offer for offer in part.offers}
        after = part.next_after
        pause()
        if not after:
            return list(found.values())
