"""The states of a session and what may follow (design.md section 3)."""

from django.db.models import TextChoices


class State(TextChoices):
    REQUESTED = "requested", "Requested"
    CREATING = "creating", "Creating"
    BOOTING = "booting", "Booting"
    VERIFYING = "verifying", "Checking SSH"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    ENDED = "ended", "Ended"


class Outcome(TextChoices):
    OK = "ok", "Ended as asked"
    FAILED = "failed", "Failed"
    LOST = "lost", "Lost"


class Fallback(TextChoices):
    """What may be tried when the clicked offer turns out to be gone."""

    NONE = "none", "Only this offer"
    SAME_GPU = "gpu", "The same GPU elsewhere"
    MEMORY = "memory", "Any GPU with as much memory"


class Resolution(TextChoices):
    """What became of one create call. Empty = open: it may still cost money."""

    CREATED = "created", "Created"
    ADOPTED = "adopted", "Found by its label"
    LEFTOVER = "leftover", "Refused, but left a machine"
    NOT_CREATED = "not_created", "Not created"
    GONE = "gone", "Gone"


NEXT: dict[State, set[State]] = {
    State.REQUESTED: {State.CREATING, State.STOPPING},
    State.CREATING: {State.BOOTING, State.STOPPING},
    State.BOOTING: {State.VERIFYING, State.STOPPING},
    State.VERIFYING: {State.RUNNING, State.STOPPING},
    State.RUNNING: {State.STOPPING},
    State.STOPPING: {State.ENDED},
    State.ENDED: set(),
}
WAITING = (State.REQUESTED, State.CREATING, State.BOOTING, State.VERIFYING)
