"""How Vast.ai answers: errors, the account, creates, destroys. All pure."""

import re
from decimal import Decimal

from . import clean, dead_man
from .base import (
    Account,
    AuthRefused,
    BadResponse,
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    LaunchSpec,
    ProviderError,
    RateLimited,
    RequestRefused,
)
from .http import Answer
from .replies import Json, as_object, message, words

QUIET = "touch ~/.no_auto_tmux"  # otherwise a login lands in tmux


def _auth_refused(answer: Answer) -> bool:
    """Vast says it as 401, 403 or 404."""
    return answer.status in (401, 403) or as_object(answer).get("error") == "auth_error"


def checked(answer: Answer) -> Json:
    """The object inside a good answer. Raises the error that names what else it is."""
    status, text = answer.status, message(answer)
    if status == 429:
        raise RateLimited(text)
    if _auth_refused(answer):
        raise AuthRefused(text)
    if status >= 500 or status == 408:
        raise ProviderError(text)
    if 400 <= status < 500:
        raise RequestRefused(text)
    if status != 200 or not isinstance(answer.json, dict):
        raise BadResponse(f"HTTP {status} of an unexpected kind")
    if answer.json.get("success", True) is not True:
        raise RequestRefused(text)
    return answer.json


def parse_account(body: Json) -> Account:
    """Raises BadResponse without a usable id."""
    account_id = clean.numeric_id(body.get("id"))
    if not account_id:
        raise BadResponse("an account without an id")
    amounts = [clean.number(body.get(key), -(10**7), 10**7) for key in ("credit", "balance")]
    balance = next((amount for amount in amounts if amount is not None), None)
    balance = balance if balance is None else balance.quantize(Decimal("0.0001"))
    return Account(account_id=account_id, balance=balance)


def create_body(spec: LaunchSpec, base_url: str) -> dict[str, object]:
    """cancel_unavail: refuse rather than wait stopped, billed for disk, and start some day."""
    return {
        "client_id": "me",
        "image": spec.image,
        "disk": spec.disk_gb,
        "label": spec.label,
        "runtype": "ssh_direct",
        "env": {},
        "onstart": onstart(spec, base_url),
        "target_state": "running",
        "cancel_unavail": True,
    }


def onstart(spec: LaunchSpec, base_url: str) -> str:
    script = spec.startup_script
    script = script if script.startswith("#!") else f"{QUIET}\n{script}"
    return dead_man.guarded(script, spec.lease, base_url) if spec.lease else script


FUNDS = re.compile(
    r"missing_billing|insufficient_credit|spend_rate|spend.rate limit|lack(s|ing)? credit"
    r"|insufficient (credit|funds|balance)",
    re.IGNORECASE,
)
INVALID_CODES = {
    "invalid_args",
    "invalid_request",
    "invalid_price",
    "invalid_token",
    "label_too_long",
    "no_ssh_key_for_vm",
    "rental_too_long",
}


def parse_create(answer: Answer) -> CreateResult:
    """Only what the contract names is a refusal; everything else may have made an instance."""
    body = as_object(answer)
    instance_id = clean.numeric_id(body.get("new_contract"))
    if "new_contract" in body and body["new_contract"] is not None:
        outcome = _made(answer.status, body.get("success"), instance_id)
    else:
        outcome = _refusal(answer)
    return CreateResult(
        outcome=outcome,
        instance_id=instance_id,
        message="" if outcome == CreateOutcome.CREATED else message(answer),
        http_status=answer.status,
    )


def _made(status: int, success: object, instance_id: str) -> CreateOutcome:
    if instance_id and success is False:
        return CreateOutcome.LEFTOVER
    created = instance_id and success is True and status in (200, 201)
    return CreateOutcome.CREATED if created else CreateOutcome.UNKNOWN


def _refusal(answer: Answer) -> CreateOutcome:
    status, text, body = answer.status, words(answer), as_object(answer)
    if status == 429:
        return CreateOutcome.RATE
    if body.get("success", False) is not False or not (status == 200 or 400 <= status < 500):
        return CreateOutcome.UNKNOWN
    if "no_such_ask" in text:
        return CreateOutcome.OFFER_GONE
    if status == 402 or FUNDS.search(text):
        return CreateOutcome.NO_FUNDS
    if "can only rent their own" in text:
        return CreateOutcome.INVALID
    if _auth_refused(answer):
        return CreateOutcome.AUTH
    if body.get("error") == "rate_limit_exceeded":
        return CreateOutcome.RATE
    wrong = status in (200, 400) and clean.clean(body.get("error")) in INVALID_CODES
    return CreateOutcome.INVALID if wrong else CreateOutcome.UNKNOWN


def parse_destroy(answer: Answer) -> DestroyResult:
    body, outcome = as_object(answer), DestroyOutcome.RETRY
    if answer.status == 200 and body.get("success") is True:
        outcome = DestroyOutcome.ACCEPTED
    elif no_such_instance(answer):
        outcome = DestroyOutcome.NOT_FOUND
    accepted = outcome == DestroyOutcome.ACCEPTED
    text = "" if accepted else message(answer)
    return DestroyResult(outcome=outcome, message=text, http_status=answer.status)


def no_such_instance(answer: Answer) -> bool:
    named = as_object(answer).get("error") in ("no_such_instance", "not_found")
    return named and answer.status in (200, 404)
