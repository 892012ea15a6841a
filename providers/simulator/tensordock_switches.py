"""What about TensorDock its sources do not agree on, or what an operator may want otherwise.

Every shape is a name of its list below, or "rotate": another one on every call.
"""

from collections.abc import Mapping

from .store import Record

ROTATE = "rotate"
CHOICES: dict[str, tuple[object, ...]] = {
    "true_stock": (False, True),  # true: all that is listed is really there
    "ssh_key_installs": (False, True),  # true: the field `ssh_key` works, for `user`
    "foreign_cloud_init": ("ignored", "rejected"),  # keys that TensorDock does not know
    "create_shape": (ROTATE, "documented", "bare", "attributes", "created"),
    "first_status": (ROTATE, "running", "creating", "queued", "starting"),
    "list_shape": (ROTATE, "array", "instances", "attributes"),
    "read_shape": (ROTATE, "bare", "wrapped"),
    "delete_shape": (ROTATE, "documented", "message", "empty"),
}


def turned(now: Mapping[str, object], changes: Record) -> Record:
    """Raises ValueError with a sentence for people."""
    for name, value in changes.items():
        if name not in CHOICES:
            raise ValueError(f"no switch {name}; known: {sorted(CHOICES)}")
        if value not in CHOICES[name]:
            raise ValueError(f"{name} can be {list(CHOICES[name])}")
    return {name: choices[0] for name, choices in CHOICES.items()} | dict(now) | changes


def shape(switches: Mapping[str, object], name: str, turn: int) -> str:
    choices = [str(choice) for choice in CHOICES[name] if choice != ROTATE]
    wanted = str(switches.get(name, ROTATE))
    return choices[turn % len(choices)] if wanted == ROTATE else wanted
