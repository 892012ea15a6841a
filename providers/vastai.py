"""Vast.ai: the calls, each one thin; vastai_answers, _offers and _instances understand them."""

import time
from collections.abc import Mapping

from . import clean, waits
from .base import (
    Account,
    Capabilities,
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    Instance,
    LaunchSpec,
    Listing,
    NotSent,
    OfferListing,
    Provider,
    ProviderError,
    RequestRefused,
)
from .http import DESTROY, READ, ApiClient, create_deadline
from .vastai_answers import (
    checked,
    create_body,
    parse_account,
    parse_create,
    parse_destroy,
    words,
)
from .vastai_instances import Walk, parse_instance_read
from .vastai_offers import Stock, parse_offer_rows, search_query

MAX_SEARCHES = 12  # in one job
SEARCH_SECONDS = 15  # real ones: a job must end before the slice that carries it
SEARCH_PAUSE = 6.5  # seconds
LIST_PAUSE = 1.1  # seconds
ACCOUNT_SECONDS = 15  # shorter than the distance of two pieces of evidence (20 s)


class VastAI(Provider):
    name = "vastai"
    title = "Vast.ai"
    capabilities = Capabilities(
        attach_key=True, self_destroy=True, offer_min_disk_gb=8, script_max_chars=2600
    )  # the marketplace takes 4048 characters, the switch included

    def __init__(self, *, api_key: str, base_url: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        self.base_url = base_url
        self.api = ApiClient(base_url, provider=self.name, headers=headers, secrets=[api_key])
        self._known: tuple[float, str] = (0.0, "")  # account id and until when it is believed

    def account(self) -> Account:
        answer = self.api.call("GET", "/api/v0/users/current/", deadline=READ)
        account = parse_account(checked(answer))
        self._known = (time.monotonic() + waits.seconds(ACCOUNT_SECONDS), account.account_id)
        return account

    def search_offers(self, after: str = "") -> OfferListing:
        """Page after page by rising price, as many as fit into one short job."""
        stock, started = Stock(after), time.monotonic()
        pause = waits.seconds(SEARCH_PAUSE)
        while True:
            answer = self.api.call(
                "POST", "/api/v0/bundles/", json=search_query(stock.highest), deadline=READ
            )
            more = stock.add(parse_offer_rows(checked(answer)))
            late = time.monotonic() + pause > started + SEARCH_SECONDS
            if not more or late or stock.searches == MAX_SEARCHES:
                return stock.listing()
            time.sleep(pause)

    def create(self, spec: LaunchSpec) -> CreateResult:
        offer_id = clean.numeric_id(spec.offer_id)
        if not offer_id:
            return CreateResult(outcome=CreateOutcome.INVALID, message="Not an offer of Vast.ai")
        path, body = f"/api/v0/asks/{offer_id}/", create_body(spec, self.base_url)
        try:
            answer = self.api.call("PUT", path, json=body, deadline=create_deadline(), fresh=True)
        except NotSent as error:
            return CreateResult(outcome=CreateOutcome.NOT_SENT, message=str(error))
        except ProviderError as error:
            return CreateResult(outcome=CreateOutcome.UNKNOWN, message=str(error))
        return parse_create(answer)

    def list_instances(self) -> Listing:
        """The account is read first, so that another account's list is never taken for ours."""
        account_id = self._account_id()
        walk = Walk()
        while walk.more:
            if walk.pages:
                time.sleep(waits.seconds(LIST_PAUSE))
            answer = self.api.call("GET", "/api/v1/instances/", params=walk.params(), deadline=READ)
            walk.add(checked(answer))
        return Listing(instances=walk.instances(), account_id=account_id)

    def get_instance(
        self, instance_id: str, details: Mapping[str, object] | None = None
    ) -> Instance | None:
        answer = self.api.call(
            "GET", f"/api/v0/instances/{self._checked_id(instance_id)}/", deadline=READ
        )
        return parse_instance_read(answer, instance_id)

    def destroy(self, instance_id: str) -> DestroyResult:
        try:
            path = f"/api/v0/instances/{self._checked_id(instance_id)}/"
            answer = self.api.call("DELETE", path, json={}, deadline=DESTROY)
        except ProviderError as error:
            return DestroyResult(outcome=DestroyOutcome.RETRY, message=str(error))
        return parse_destroy(answer)

    def attach_key(self, instance_id: str, public_key: str) -> None:
        path = f"/api/v0/instances/{self._checked_id(instance_id)}/ssh/"
        answer = self.api.call("POST", path, json={"ssh_key": public_key}, deadline=READ)
        if "already associated" not in words(answer):
            checked(answer)

    def _account_id(self) -> str:
        until, account_id = self._known
        return account_id if time.monotonic() < until else self.account().account_id

    def _checked_id(self, instance_id: str) -> str:
        if clean.numeric_id(instance_id) != instance_id or not instance_id:
            raise RequestRefused("not an instance id of Vast.ai")
        return instance_id
