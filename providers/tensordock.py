"""TensorDock: the calls, each one thin; tensordock_answers, _offers and _instances read them."""

import time
from collections.abc import Mapping

from . import waits
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
from .http import DESTROY, READ, Answer, ApiClient, create_deadline
from .tensordock_answers import (
    IMAGE,
    account_id,
    checked,
    create_body,
    parse_create,
    parse_destroy,
    status,
)
from .tensordock_instances import USERS, parse_listing, parse_read
from .tensordock_offers import MIN_DISK_GB, parse_offers, uuid

DEFAULT_IMAGE = "ubuntu2404_ml_pytorch"
CREATE_SECONDS = 120  # its creates take one or two minutes
SECOND_OPINION = 5  # seconds: good tokens were refused in bursts


class TensorDock(Provider):
    name = "tensordock"
    title = "TensorDock"
    capabilities = Capabilities(
        ssh_users=USERS,
        create_seconds=CREATE_SECONDS,
        default_image=DEFAULT_IMAGE,
        image_pattern=IMAGE.pattern,
        settle_seconds=300,
        key_grace_seconds=120,
        boot_seconds=1200,
        offers_ttl_seconds=30,
        offer_min_disk_gb=MIN_DISK_GB,
        script_max_chars=4000,
    )

    def __init__(self, *, api_key: str, base_url: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        self.api = ApiClient(base_url, provider=self.name, headers=headers, secrets=[api_key])
        self._account_id = account_id(api_key)

    def account(self) -> Account:
        """The API tells neither account nor balance; a listing shows that the token works."""
        return Account(account_id=self.list_instances().account_id)

    def search_offers(self, after: str = "") -> OfferListing:
        return parse_offers(checked(self._get("/locations")))

    def create(self, spec: LaunchSpec) -> CreateResult:
        try:
            body = create_body(spec)
            deadline = create_deadline(read=CREATE_SECONDS, total=CREATE_SECONDS)
            answer = self._call("POST", "/instances", json=body, deadline=deadline, fresh=True)
        except RequestRefused as error:
            return CreateResult(outcome=CreateOutcome.INVALID, message=str(error))
        except NotSent as error:
            return CreateResult(outcome=CreateOutcome.NOT_SENT, message=str(error))
        except ProviderError as error:
            return CreateResult(outcome=CreateOutcome.UNKNOWN, message=str(error))
        return parse_create(answer)

    def list_instances(self) -> Listing:
        instances = parse_listing(checked(self._get("/instances")))
        return Listing(instances=instances, account_id=self._account_id)

    def get_instance(
        self, instance_id: str, details: Mapping[str, object] | None = None
    ) -> Instance | None:
        shared = (details or {}).get("dedicated_ip") is False
        return parse_read(self._get(_path(instance_id)), instance_id, shared=shared)

    def destroy(self, instance_id: str) -> DestroyResult:
        """Always delete: a stopped machine is billed in full."""
        try:
            answer = self._call("DELETE", _path(instance_id), deadline=DESTROY)
        except ProviderError as error:
            return DestroyResult(outcome=DestroyOutcome.RETRY, message=str(error))
        return parse_destroy(answer)

    def _get(self, path: str) -> Answer:
        """A refused token is asked about once more before it counts as refused."""
        answer = self._call("GET", path, deadline=READ)
        if status(answer) != 401:
            return answer
        time.sleep(waits.seconds(SECOND_OPINION))
        return self._call("GET", path, deadline=READ)

    def _call(self, method: str, path: str, **options: object) -> Answer:
        return self.api.call(method, f"/api/v2{path}", **options)


def _path(instance_id: str) -> str:
    if not uuid(instance_id):
        raise RequestRefused("not an instance id of TensorDock")
    return f"/instances/{instance_id}"
