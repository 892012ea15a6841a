"""TensorDock's adapter against the simulator, in its own process over real HTTP."""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from providers.base import (
    CreateOutcome,
    DestroyOutcome,
    InstanceState,
    OfferRecord,
    Provider,
    ProviderError,
)
from providers.tensordock import TensorDock

from .contract import KEY, C, ProviderContract
from .simulated import Simulated, eventually, pause, simulator


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with simulator("tensordock", tmp_path_factory.mktemp("market")) as found:
        yield found


class TestTensorDock(ProviderContract):
    adapter = TensorDock
    image = "ubuntu2404_ml_pytorch"
    no_offer: ClassVar[dict[str, object]] = {
        "details": {"location_id": "../1", "vcpu_count": 4, "ram_gb": 16, "dedicated_ip": True}
    }
    refusals: ClassVar[dict[str, CreateOutcome]] = {
        "rate_limited": C.RATE,
        "auth_401": C.AUTH,
        "auth_403": C.AUTH,
        "no_nodes": C.OFFER_GONE,
        "no_nodes_400": C.OFFER_GONE,
        "hostnode_unavailable": C.OFFER_GONE,
        "no_public_ip": C.OFFER_GONE,
        "low_balance": C.NO_FUNDS,
        "more_balance": C.NO_FUNDS,
        "ssh_rule": C.INVALID,
        "validation": C.INVALID,
    }
    partial = ("duplicate_rows", "strange_ids", "row_without_id", "unknown_shape", "list_error")

    @staticmethod
    def machine_of(offer: OfferRecord) -> str:
        return offer.offer_id.rsplit(":", 2)[0]

    # what TensorDock does not tell

    def test_the_account_has_an_id_and_a_balance(self, provider: Provider) -> None:
        account = provider.account()
        assert account.account_id and account.balance is None

    def test_another_accounts_listing_carries_its_id(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        other = self.open(simulated.url, "simulated-key-other")
        assert other.list_instances().account_id != provider.list_instances().account_id

    # what it does in its own way

    def test_a_key_can_be_attached_again_and_again(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        """Its keys come with the create, and cloud-init installs them for both accounts."""
        self.create(provider)
        keys = eventually(lambda: simulated.alive()[0]["keys"])
        assert keys == [KEY, KEY]

    def test_an_offer_that_is_taken_is_gone(self, provider: Provider) -> None:
        """A place may have several such nodes, each good for one."""
        offer = self.fresh_offer()
        outcomes = []
        while C.OFFER_GONE not in outcomes and len(outcomes) < 5:
            outcomes.append(provider.create(self.spec(offer)).outcome)
            pause()
        assert outcomes[:1] == [C.CREATED] and set(outcomes) == {C.CREATED, C.OFFER_GONE}

    def test_most_of_the_stock_may_not_be_there(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        simulated.ask("POST", "/market", {"true_stock": False})
        try:
            offers = {self.machine_of(o): o for o in provider.search_offers().offers}
            outcomes = []
            for offer in list(offers.values())[:12]:
                outcomes.append(provider.create(self.spec(offer)).outcome)
                pause()
        finally:
            simulated.ask("POST", "/market", {"true_stock": True})
        assert set(outcomes) == {C.CREATED, C.OFFER_GONE}

    def test_a_refusal_can_leave_a_machine(self, simulated: Simulated, provider: Provider) -> None:
        simulated.fault("create", "orphan")
        spec, result = self.create(provider)
        assert result.outcome == C.LEFTOVER and result.instance_id
        assert provider.get_instance(result.instance_id).label == spec.label

    def test_a_deployment_that_broke_may_have_left_a_machine(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        simulated.fault("create", "unexpected")
        _, result = self.create(provider)
        assert result.outcome == C.UNKNOWN and not result.instance_id

    def test_the_way_in_is_told_when_it_is_there(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        _, found = self.running(provider)
        truth = simulated.alive()[0]

        def told() -> bool:
            ends = provider.get_instance(found.instance_id).endpoints
            return {(e.port, e.user) for e in ends} == {
                (truth["ssh_port"], user) for user in ("user", "root")
            }

        assert eventually(told)

    @pytest.mark.parametrize(
        "fault, state",
        [
            ("exits_at_once", InstanceState.STOPPED),
            ("reclaimed", InstanceState.STOPPED),
            ("fails", InstanceState.FAILED),
        ],
    )
    def test_machines_that_do_not_stay_are_told(
        self, simulated: Simulated, provider: Provider, fault: str, state: InstanceState
    ) -> None:
        simulated.fault("create", fault)
        _, result = self.create(provider)
        assert eventually(lambda: provider.get_instance(result.instance_id).state == state)

    def test_a_destroyed_instance_may_linger(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        instance_id = simulated.seed(label="box")
        simulated.fault("destroy", "still_listed", seconds=50)
        assert provider.destroy(instance_id).outcome == DestroyOutcome.ACCEPTED
        pause()
        assert [i.instance_id for i in provider.list_instances().instances] == [instance_id]
        eventually(lambda: provider.get_instance(instance_id) is None)

    @pytest.mark.parametrize("shape", ["array", "instances", "attributes"])
    def test_every_shape_of_a_listing_tells_the_same(
        self, simulated: Simulated, provider: Provider, shape: str
    ) -> None:
        instance_id = simulated.seed(label="box")
        simulated.ask("POST", "/market", {"list_shape": shape})
        try:
            (found,) = provider.list_instances().instances
        finally:
            simulated.ask("POST", "/market", {"list_shape": "rotate"})
        assert (found.instance_id, found.label) == (instance_id, "box")
        assert found.state == InstanceState.RUNNING

    def test_one_refusal_of_a_good_token_is_forgiven_and_two_are_not(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        simulated.fault("list", "auth_401")
        assert provider.list_instances().instances == ()
        simulated.fault("list", "auth_401", times=2)
        with pytest.raises(ProviderError):
            provider.list_instances()
