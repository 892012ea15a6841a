"""How Vast.ai answers creates, destroys and bad keys: the contract's tables, row by row."""

from datetime import UTC, datetime

import pytest

from providers.base import (
    AuthRefused,
    BadResponse,
    CreateOutcome,
    DestroyOutcome,
    LaunchSpec,
    ProviderError,
    RateLimited,
    RequestRefused,
)
from providers.vastai_answers import (
    checked,
    create_body,
    parse_account,
    parse_create,
    parse_destroy,
)

from .vast_samples import LABEL, reply

CREATED = {"success": True, "new_contract": 31255041, "instance_api_key": "d15a0c5b9f7e4a0f"}
LEFT = {"success": False, "new_contract": 31255042, "instance_api_key": "d15a0c5b9f7e4a0f"}
GONE_404 = "No ask by id 30406190 is available."
GONE_400 = "error 404/3603: no_such_ask  Instance type by id 29907796 is not available."
GONE_410 = "error 410/3907: no_such_ask Instance type 30406190 is no longer available."
OTHER_HOST = "error 403/3586: Offer 1 is not your own. Hosts can only rent their own machines."


def no(error: str, msg: str = "") -> dict[str, object]:
    return {"success": False, "error": error, "msg": msg}


C = CreateOutcome


@pytest.mark.parametrize(
    "status, body, outcome",
    [
        (200, CREATED, C.CREATED),
        (200, LEFT, C.LEFTOVER),
        (200, LEFT | no("no_such_ask"), C.LEFTOVER),
        (400, LEFT | no("missing_billing"), C.LEFTOVER),
        (404, no("no_such_ask", GONE_404), C.OFFER_GONE),
        (404, no("invalid_args", GONE_400), C.OFFER_GONE),
        (400, no("invalid_args", GONE_400), C.OFFER_GONE),
        (410, no("no_such_ask", GONE_410), C.OFFER_GONE),
        (200, no("no_such_ask", GONE_404), C.OFFER_GONE),
        (400, no("invalid_args", "runtype and use_ssh cannot both be set"), C.INVALID),
        (400, no("label_too_long"), C.INVALID),
        (200, no("invalid_request", "bad json"), C.INVALID),
        (403, no("invalid_args", OTHER_HOST), C.INVALID),
        (400, no("missing_billing", "You lack credit, see the billing page."), C.NO_FUNDS),
        (400, no("insufficient_credit"), C.NO_FUNDS),
        (400, no("invalid_args", "Your spend rate limit is too low"), C.NO_FUNDS),
        (402, "", C.NO_FUNDS),
        (401, no("auth_error", "Invalid user key"), C.AUTH),
        (403, no("auth_error", "This action requires login."), C.AUTH),
        (404, no("auth_error", "Invalid user key"), C.AUTH),
        (429, "API requests too frequent: endpoint threshold=4.5", C.RATE),
        (429, {"detail": "API requests too frequent endpoint threshold=4.5"}, C.RATE),
        (429, no("rate_limit_exceeded"), C.RATE),
        (429, {"message": "too many", "code": "429 Too Many Requests"}, C.RATE),
        # what nobody documented may have made an instance
        (200, "", C.UNKNOWN),
        (200, "<html>", C.UNKNOWN),
        (200, [], C.UNKNOWN),
        (200, {}, C.UNKNOWN),
        (200, {"success": True}, C.UNKNOWN),
        (200, {"success": True, "new_contract": "x"}, C.UNKNOWN),
        (200, {"success": True, "new_contract": -5}, C.UNKNOWN),
        (200, {"success": "yes", "new_contract": 5}, C.UNKNOWN),
        (200, {"new_contract": 5}, C.UNKNOWN),
        (500, CREATED, C.UNKNOWN),
        (200, no("resources_unavailable", "state change queued"), C.UNKNOWN),
        (200, no("something_new"), C.UNKNOWN),
        (200, {"success": False, "error": {"invalid_args": 1}}, C.UNKNOWN),
        (400, no("something_new"), C.UNKNOWN),
        (400, "<html>", C.UNKNOWN),
        (404, "<html>not found", C.UNKNOWN),
        (408, "", C.UNKNOWN),
        (302, "", C.UNKNOWN),
        (500, no("no_such_ask"), C.UNKNOWN),
        (502, "<html>", C.UNKNOWN),
        (503, no("invalid_args"), C.UNKNOWN),
    ],
)
def test_create_outcomes(status: int, body: object, outcome: CreateOutcome) -> None:
    result = parse_create(reply(status, body))
    assert result.outcome == outcome
    assert result.http_status == status
    if outcome in (C.CREATED, C.LEFTOVER):
        assert result.instance_id == str(body["new_contract"])
    assert "d15a0c5b9f7e4a0f" not in repr(result)


def test_a_refusal_carries_the_providers_words() -> None:
    result = parse_create(reply(400, no("missing_billing", "You lack\u202e credit.\n")))
    assert result.message == "missing_billing: You lack credit."


def test_the_create_call_carries_label_and_cannot_wait_stopped() -> None:
    spec = LaunchSpec(
        label=LABEL,
        offer_id="1",
        gpu_name_raw="RTX 5090",
        gpu_count=1,
        image="nvidia/cuda:12.4.1-devel-ubuntu22.04",
        disk_gb=60,
        ssh_public_keys=("ssh-ed25519 AAAA",),
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
        startup_script="nvidia-smi -L",
    )
    body = create_body(spec, "https://console.vast.ai")
    assert (body["label"], body["disk"], body["runtype"]) == (LABEL, 60, "ssh_direct")
    assert body["cancel_unavail"] is True and body["target_state"] == "running"
    assert body["onstart"] == "touch ~/.no_auto_tmux\nnvidia-smi -L"
    assert "price" not in body  # its presence makes the instance interruptible


D = DestroyOutcome


@pytest.mark.parametrize(
    "status, body, outcome",
    [
        (200, {"success": True}, D.ACCEPTED),
        (404, no("no_such_instance", "Instance 1 not found."), D.NOT_FOUND),
        (404, no("not_found"), D.NOT_FOUND),
        (200, no("no_such_instance"), D.NOT_FOUND),
        (404, no("auth_error"), D.RETRY),
        (404, "<html>", D.RETRY),
        (500, no("no_such_instance"), D.RETRY),
        (200, {}, D.RETRY),
        (200, {"success": False}, D.RETRY),
        (200, "", D.RETRY),
        (429, "too frequent", D.RETRY),
        (400, no("invalid_args"), D.RETRY),
    ],
)
def test_destroy_outcomes(status: int, body: object, outcome: DestroyOutcome) -> None:
    assert parse_destroy(reply(status, body)).outcome == outcome


@pytest.mark.parametrize(
    "status, body, error",
    [
        (429, "API requests too frequent", RateLimited),
        (401, no("auth_error"), AuthRefused),
        (403, "<html>", AuthRefused),
        (404, no("auth_error"), AuthRefused),
        (404, "", RequestRefused),
        (400, no("invalid_args"), RequestRefused),
        (200, no("invalid_args"), RequestRefused),
        (500, "", ProviderError),
        (408, "", ProviderError),
        (301, "", BadResponse),
        (204, "", BadResponse),
        (200, "", BadResponse),
        (200, "[]", BadResponse),
        (200, '{"a": 1, "a": 2}', BadResponse),
        (200, '{"a": ' + "[" * 70 + "]" * 70 + "}", BadResponse),
        (200, "[" * 200_000, BadResponse),
        (200, '{"a": ' + "9" * 5000 + "}", BadResponse),
    ],
)
def test_an_answer_that_is_no_answer_has_a_name(
    status: int, body: object, error: type[ProviderError]
) -> None:
    with pytest.raises(ProviderError) as caught:
        checked(reply(status, body))
    assert type(caught.value) is error


def test_a_body_that_is_not_utf8_is_refused() -> None:
    answer = reply(200, "{}")
    object.__setattr__(answer, "body", b'{"a": "\xff"}')
    with pytest.raises(BadResponse):
        checked(answer)


def test_credit_counts_before_balance() -> None:
    account = parse_account({"id": 4711, "credit": 41, "balance": 0})
    assert (account.account_id, str(account.balance)) == ("4711", "41.0000")
    assert str(parse_account({"id": 4711, "balance": -2}).balance) == "-2.0000"
    assert parse_account({"id": 4711, "credit": "many"}).balance is None


@pytest.mark.parametrize("identity", [None, 0, -4, "x", True, 4.5])
def test_an_account_without_an_id_is_refused(identity: object) -> None:
    with pytest.raises(BadResponse):
        parse_account({"id": identity, "credit": 1})
