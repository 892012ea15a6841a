"""How far our own tries came at each marketplace: created and running, SSH, the GPU as sold."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q

from .evidence import DO_NOT_COUNT
from .models import Attempt
from .states import WAITING, Resolution

DAYS = 30
PEOPLE = ("user", "admin")  # who stops early says nothing about the marketplace

SETTLED = Q(resolution__in=[Resolution.NOT_CREATED, Resolution.GONE]) | ~Q(
    session__state__in=WAITING
)
STOPPED_EARLY = ~Q(resolution=Resolution.NOT_CREATED) & Q(
    session__reason__in=PEOPLE, session__verified_at=None
)
PROVISIONED = Q(ready_at__isnull=False)
SSH = PROVISIONED & Q(session__ssh_key_at__isnull=False)
VERIFIED = SSH & Q(session__verified_at__isnull=False, session__found__problems=[])


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Of `tries` create calls whose fate is known, so many came as far as each stage."""

    tries: int = 0
    provisioned: int = 0
    ssh: int = 0
    verified: int = 0

    @property
    def steps(self) -> list[tuple[str, int, float]]:
        """(name, count, share of the tries)."""
        counts = {
            "Machine running": self.provisioned,
            "SSH login": self.ssh,
            "GPU as sold": self.verified,
        }
        return [(name, count, count / self.tries) for name, count in counts.items()]


def stages(now: datetime) -> dict[str, Stages]:
    """By marketplace, of the last DAYS days. One query."""
    tried = Attempt.objects.filter(SETTLED, sent_at__gte=now - timedelta(days=DAYS))
    tried = tried.exclude(outcome__in=DO_NOT_COUNT).exclude(STOPPED_EARLY)
    rows = tried.values("provider").annotate(
        tries=Count("pk"),
        provisioned=Count("pk", filter=PROVISIONED),
        ssh=Count("pk", filter=SSH),
        verified=Count("pk", filter=VERIFIED),
    )
    return {row.pop("provider"): Stages(**row) for row in rows.order_by()}
