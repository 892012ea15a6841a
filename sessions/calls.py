"""A session's external calls: plain values that a thread carries out without the database."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from providers import registry
from providers.base import (
    CreateOutcome,
    CreateResult,
    DestroyOutcome,
    DestroyResult,
    Instance,
    LaunchSpec,
    ProviderError,
)

from . import ssh

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Call:
    """`fence` proves on return that the session is still ours to write."""

    session_id: UUID
    attempt_id: int
    fence: int
    provider: str
    label: str
    instance_id: str = ""

    kind = ""  # how errors name it
    lane = ""  # the operation whose rate token is taken; empty = none needed

    def perform(self) -> object:
        raise TypeError(f"{type(self).__name__} cannot be performed")


@dataclass(frozen=True, kw_only=True)
class CreateCall(Call):
    spec: LaunchSpec
    not_after: datetime  # a permit that waited longer is not used

    lane = "create"

    def perform(self) -> CreateResult:
        if timezone.now() > self.not_after:
            text = "gpubroker was too busy to send it in time"
            return CreateResult(outcome=CreateOutcome.NOT_SENT, message=text)
        return registry.get(self.provider).create(self.spec)


@dataclass(frozen=True, kw_only=True)
class AttachCall(Call):
    public_key: str
    number: int  # of the key, counted from 0: told twice, it is still one key

    lane = "attach"

    def perform(self) -> ProviderError | None:
        """None when the key is installed, else why not."""
        try:
            registry.get(self.provider).attach_key(self.instance_id, self.public_key)
        except ProviderError as error:
            return error
        return None


@dataclass(frozen=True, kw_only=True)
class DestroyCall(Call):
    """`sure` = the provider itself gave us this id for our label, or showed both together."""

    sure: bool

    lane = "destroy"

    def perform(self) -> DestroyResult:
        provider = registry.get(self.provider)
        try:
            instance = provider.get_instance(self.instance_id)
        except ProviderError as error:
            if not self.sure:
                return DestroyResult(outcome=DestroyOutcome.RETRY, message=str(error))
            instance = None
        if instance and instance.label != self.label:
            message = f"refused: the instance carries another label ({instance.label[:60]})"
            return DestroyResult(outcome=DestroyOutcome.RETRY, message=message)
        return provider.destroy(self.instance_id)


@dataclass(frozen=True, kw_only=True)
class ReadCall(Call):
    lane = "read"
    details: Mapping[str, object]  # of the offer

    def perform(self) -> Instance | None | ProviderError:
        try:
            return registry.get(self.provider).get_instance(self.instance_id, self.details)
        except ProviderError as error:
            return error


@dataclass(frozen=True, kw_only=True)
class SSHCall(Call):
    target: ssh.Target = field(repr=False)

    def perform(self) -> ssh.Check:
        return ssh.check(self.target)


def allow_loopback() -> bool:
    """Only simulated machines live on this host (SSRF, safety.md 6.10)."""
    return settings.SIMULATED
