"""Vast.ai's adapter against the simulator, in its own process over real HTTP."""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from providers.base import CreateOutcome, DestroyOutcome, InstanceState, Provider
from providers.vastai import VastAI

from .contract import C, ProviderContract
from .simulated import Simulated, eventually, pause, simulator


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with simulator("vastai", tmp_path_factory.mktemp("market")) as found:
        yield found


class TestVastAI(ProviderContract):
    adapter = VastAI
    image = "nvidia/cuda:12.4.1-devel-ubuntu22.04"
    refusals: ClassVar[dict[str, CreateOutcome]] = {
        "rate_limited": C.RATE,
        "auth_401": C.AUTH,
        "auth_403": C.AUTH,
        "auth_404": C.AUTH,
        "no_such_ask_400": C.OFFER_GONE,
        "no_such_ask_404": C.OFFER_GONE,
        "no_such_ask_410": C.OFFER_GONE,
        "missing_billing": C.NO_FUNDS,
        "insufficient_credit": C.NO_FUNDS,
        "spend_rate_limit": C.NO_FUNDS,
        "invalid_args": C.INVALID,
    }
    partial = ("missing_page", "duplicate_rows", "lost_row", "total_shifts", "token_loop")

    def test_a_refusal_can_leave_a_machine(self, simulated: Simulated, provider: Provider) -> None:
        simulated.fault("create", "orphan")
        spec, result = self.create(provider)
        assert result.outcome == C.LEFTOVER and result.instance_id
        left = provider.get_instance(result.instance_id)
        assert (left.label, left.state) == (spec.label, InstanceState.STOPPED)

    @pytest.mark.parametrize("fault", ["runtime_failed", "image_missing", "exits_at_once"])
    def test_machines_that_can_never_run_are_told(
        self, simulated: Simulated, provider: Provider, fault: str
    ) -> None:
        simulated.fault("create", fault)
        _, result = self.create(provider)

        def failed() -> bool:
            return provider.get_instance(result.instance_id).state == InstanceState.FAILED

        assert eventually(failed)

    @pytest.mark.parametrize("fault", ["outbid", "offline"])
    def test_machines_that_went_away_are_still_there(
        self, simulated: Simulated, provider: Provider, fault: str
    ) -> None:
        instance_id = simulated.seed(label="box")
        simulated.fault("instance", fault, instance_id=instance_id)
        pause()
        found = provider.get_instance(instance_id)
        assert found.state in (InstanceState.STOPPED, InstanceState.UNKNOWN)

    def test_a_destroyed_instance_may_linger(
        self, simulated: Simulated, provider: Provider
    ) -> None:
        instance_id = simulated.seed(label="box")
        simulated.fault("destroy", "still_listed", seconds=50)
        assert provider.destroy(instance_id).outcome == DestroyOutcome.ACCEPTED
        pause()
        assert [i.instance_id for i in provider.list_instances().instances] == [instance_id]
        eventually(lambda: provider.get_instance(instance_id) is None)

    def test_no_secret_of_a_create_reply_is_kept(self, provider: Provider) -> None:
        _, result = self.create(provider)
        assert result.message == "" and len(repr(result)) < 200
