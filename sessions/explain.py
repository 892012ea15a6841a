"""Our words for people: why a session ended, and what an audit event says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .models import AuditEvent, Session
from .states import Fallback, State


@dataclass(frozen=True)
class Reason:
    title: str
    meaning: str
    advice: str = ""


REASONS: dict[str, Reason] = {
    "user": Reason("Stopped on request", "A person asked for it."),
    "admin": Reason("Stopped by an administrator", "An administrator asked for it."),
    "expired": Reason(
        "Reached its end time",
        "The session came to the time that was fixed at launch, or by the last extension.",
        "Launch again, or extend a session before its countdown runs out.",
    ),
    "idle": Reason(
        "Stopped because the GPU was idle",
        "Every look at the GPU found it unused for the time that was chosen, a warning was given, "
        "and nobody said that the machine is in use.",
        "Choose a longer time, or none, for work that leaves the GPU alone for a while.",
    ),
    "boot_timeout": Reason(
        "The machine did not start in time",
        "It was created, but did not come as far as running, at an address, before the deadline.",
        "Usually a slow image download. Try another offer, or a smaller image.",
    ),
    "boot_failed": Reason(
        "The machine failed to start",
        "The marketplace reports the machine as failed or stopped before it was handed out.",
        "Often the image name or the host. Check the image, then try another offer.",
    ),
    "ssh_timeout": Reason(
        "SSH did not answer in time",
        "The machine runs, but no SSH login worked before the deadline.",
        "Check that the image runs an SSH server, then try another offer.",
    ),
    "ssh_refused": Reason(
        "SSH refused the key",
        "The SSH server answers, but did not accept the key that was installed at launch.",
        "Usually the image replaces authorized_keys. Try another image or offer.",
    ),
    "wrong_hardware": Reason(
        "Not the GPU that was sold",
        "nvidia-smi found something else than the offer promised.",
        "Nothing to do with your settings: try an offer from another host.",
    ),
    "price_breach": Reason(
        "Billed above the agreed price",
        "The marketplace bills more per hour than was agreed, so the machine is given back.",
        "Choose another offer: this one does not keep its price.",
    ),
    "no_offers": Reason(
        "No comparable offer is left",
        "Every offer inside the price ceiling and the requirements was tried or is gone.",
        "Raise the ceiling, loosen the requirements, or allow other GPUs with the same memory.",
    ),
    "offer_gone": Reason(
        "The offers were already taken",
        "Several offers were tried; each was gone when the request arrived.",
        "The market moves fast just now. Refresh the offers and try again.",
    ),
    "no_funds": Reason(
        "The marketplace account has no funds",
        "The marketplace refused for lack of credit.",
        "Add credit at the marketplace; the balance is on the Providers page.",
    ),
    "auth": Reason(
        "The marketplace does not accept our key",
        "The API key of this installation was refused.",
        "An administrator must replace the key; see the Providers page.",
    ),
    "invalid": Reason(
        "The marketplace calls the request wrong",
        "Repeating it would not help.",
        "Check image and disk size. If they are right, this is worth a bug report.",
    ),
    "not_created": Reason(
        "No machine could be created in time",
        "Offers were tried for as long as the rules allow, and none became a machine.",
        "Try again later or choose another offer.",
    ),
    "vanished": Reason(
        "The machine vanished",
        "Nobody here destroyed it: its host or the marketplace ended it.",
        "What was on its disk is lost. Launch again to get another machine.",
    ),
    "host_key_changed": Reason(
        "The SSH host key changed",
        "The machine answers with another key than the one pinned on first contact.",
        "Either it was rebuilt or somebody stands in between. Trust nothing that is on it.",
    ),
    "provider_gone": Reason(
        "The marketplace is no longer configured",
        "This installation has no key for the marketplace that holds the machine.",
        "An administrator must restore the key, or destroy the machine at the marketplace.",
    ),
}  # fmt: skip
ONLY_OFFER = Reason(
    "The chosen offer gave no machine",
    "Only this offer was to be tried.",
    "Launch again with another offer, or allow comparable ones.",
)
NO_GPU = Reason(
    "The GPU could not be checked in time",
    "SSH lets us in, but nvidia-smi showed no GPU before the deadline.",
    "Usually the driver is missing: try another image or offer.",
)

LAST_TRY = {  # outcome of a create, where nothing else says why there was no machine
    "offer_gone": "The last try: the offer was gone.",
    "leftover": "The last try: refused, but a machine was left behind.",
    "unknown": "The last try: no clear answer, and no machine appeared in time.",
    "rate": "The last try: too many requests at that time.",
    "not_sent": "The last try: the request could not be sent.",
}


def reason(word: str) -> Reason:
    """Every reason has words; an unknown one is shown as it is."""
    return REASONS.get(word) or Reason(word.replace("_", " ").capitalize() or "Ended", "")


def why(session: Session) -> Reason:
    """Its reason, in the words that fit what was asked for and how far it came."""
    if session.reason == "no_offers" and session.fallback == Fallback.NONE:
        return ONLY_OFFER
    if session.reason == "ssh_timeout" and session.ssh_key_at:
        return NO_GPU
    return reason(session.reason)


def meaning(session: Session, outcome: str) -> str:
    """What its reason means; `outcome` of its newest create call, empty = none."""
    tried = session.reason in ("no_offers", "not_created") and outcome
    return f"{why(session).meaning} {LAST_TRY.get(outcome, '') if tried else ''}".strip()


STATES: dict[str, str] = {
    State.REQUESTED: "Launch requested",
    State.CREATING: "Asking the marketplace for a machine",
    State.BOOTING: "The machine exists and starts",
    State.VERIFYING: "The machine runs; checking SSH and the GPU",
    State.RUNNING: "Everything checked: ready to use",
    State.STOPPING: "Stopping",
    State.ENDED: "Ended: nothing is left at the marketplace",
}

OUTCOMES: dict[str, str] = {
    "created": "The marketplace accepted",
    "leftover": "The marketplace refused, but left a machine behind: it will be destroyed",
    "offer_gone": "The offer is gone",
    "no_funds": "Refused: no funds",
    "auth": "Refused: key not accepted",
    "invalid": "Refused: the request is wrong",
    "rate": "Too many requests; trying again later",
    "not_sent": "The request did not get through; trying again",
    "unknown": "No clear answer: looking the machine up by its label",
    "accepted": "The marketplace accepted the destroy; waiting for proof",
    "not_found": "The marketplace does not know the machine; waiting for proof",
    "retry": "The destroy got no usable answer; trying again",
}


def event(row: AuditEvent) -> tuple[str, str]:
    """(sentence, detail): what happened in plain words, and the words or figures with it.

    Also of a row that lacks some of its data, as an older version may have written it.
    """
    say = SENTENCES.get(row.action)
    return say(row) if say else (row.action.replace(".", " ").replace("_", " "), _words(row))


def _words(row: AuditEvent) -> str:
    for name in ("message", "status_message", "text", "problems"):
        value = row.data.get(name)
        if value:
            return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return ""


def _state(row: AuditEvent) -> tuple[str, str]:
    to = str(row.data.get("to", ""))
    if to == State.STOPPING and row.reason:
        return f"Stopping: {inside(reason(row.reason).title)}", _words(row)
    return STATES.get(to, to) or "Another state", _words(row)


def inside(text: str) -> str:
    """For the middle of a sentence; names such as RTX, A100 or Vast.ai stay as they are."""
    rest = text.split(" ")[0][1:]
    return text[:1].lower() + text[1:] if not rest or rest.isalpha() and rest.islower() else text


def _result(row: AuditEvent) -> tuple[str, str]:
    outcome = str(row.data.get("outcome", ""))
    text = OUTCOMES.get(outcome) or f"Answer: {outcome or 'received'}"
    instance = row.data.get("instance_id")
    return (f"{text} (instance {instance})" if outcome == "created" else text), _words(row)


def _create(row: AuditEvent) -> tuple[str, str]:
    price = row.data.get("price")
    return "Create request sent", f"agreed ${_short(price)}/h" if price else ""


def _short(price: object) -> str:
    digits = str(price).rstrip("0") if "." in str(price) else str(price)
    return digits.rstrip(".")


def _clock(row: AuditEvent, word: str, name: str) -> str:
    """ "until 14:30 UTC" from `word` and the instant of that name, or ""."""
    text = str(row.data.get(name) or "")[11:16]
    return f"{word} {text} UTC" if text else ""


def _extend(row: AuditEvent) -> tuple[str, str]:
    return " ".join(filter(None, ("Extended", _clock(row, "to", "to")))), ""


def _ssh(row: AuditEvent) -> tuple[str, str]:
    stage = str(row.data.get("stage", ""))
    return SSH_STAGES.get(stage, "SSH was looked at"), _words(row)


SSH_STAGES = {
    "": "SSH does not answer yet",
    "open": "SSH answers, but did not let us in",
    "key": "SSH accepted the key",
    "gpu": "SSH accepted the key and nvidia-smi answered",
}


def _attach(row: AuditEvent) -> tuple[str, str]:
    problem = str(row.data.get("problem") or "")
    return ("The SSH key could not be installed yet" if problem else "SSH key installed"), problem


def _read(row: AuditEvent) -> tuple[str, str]:
    evidence = row.data.get("evidence")
    if evidence == "absent":
        return "Proof: neither in the listing nor found by its id", ""
    return ("The marketplace still knows the machine" if evidence else "Looked it up by its id"), ""


def _instance(row: AuditEvent) -> tuple[str, str]:
    state = row.data.get("raw_state")
    words = row.data.get("status_message") or ""
    return (f"The marketplace says: {state}" if state else "Read at the marketplace"), str(words)


def _alert(row: AuditEvent) -> tuple[str, str]:
    over = row.action == "alert.cleared"
    why = inside(row.reason or "an alert")
    return f"{'No longer' if over else 'Needs attention'}: {why}", ""


def _switch(row: AuditEvent) -> tuple[str, str]:
    if not row.data.get("alive"):
        return "The machine’s own switch could not be confirmed", ""
    return "The machine’s own switch is set", _clock(row, "for the end at", "until")


def _idle_stop(row: AuditEvent) -> tuple[str, str]:
    if "idle_minutes" not in row.data:
        return "Stop when idle changed", ""
    minutes = row.data["idle_minutes"]
    return (f"Stops when idle for {minutes} min" if minutes else "Stop when idle turned off"), ""


def _idle_warned(row: AuditEvent) -> tuple[str, str]:
    return f"Idle: stops {_clock(row, 'at', 'stops_at') or 'soon'} unless it is used", _looks(row)


def _idle_stopped(row: AuditEvent) -> tuple[str, str]:
    minutes = row.data.get("minutes")
    return (f"Was idle for {minutes} min" if minutes else "Was idle"), _looks(row)


def _looks(row: AuditEvent) -> str:
    names = ("samples", "first", "last", "highest_load")
    if not all(name in row.data for name in names):
        return ""
    samples, first, last, highest = (str(row.data[name]) for name in names)
    times = f"from {first[11:19]} to {last[11:19]} UTC"
    return f"{samples} looks {times}, GPU at most {highest} % busy"


def _fixed(text: str) -> Callable[[AuditEvent], tuple[str, str]]:
    return lambda row: (text, _words(row))


SENTENCES: Mapping[str, Callable[[AuditEvent], tuple[str, str]]] = {
    "session.state": _state,
    "session.launch": _fixed("Launch requested"),
    "session.adopted": _fixed("Adopted: the machine ran, and no row knew it"),
    "session.extend": _extend,
    "session.idle_stop": _idle_stop,
    "session.keep_running": _fixed("Kept running: still in use"),
    "idle.warned": _idle_warned,
    "idle.called_off": _fixed("No longer idle: the announced stop does not come"),
    "idle.stopped": _idle_stopped,
    "session.key_downloaded": _fixed("Private key downloaded"),
    "provider.create.intent": _create,
    "provider.create.result": _result,
    "provider.attach.intent": _fixed("Installing an SSH key"),
    "provider.attach.result": _attach,
    "provider.destroy.intent": _fixed("Destroy request sent"),
    "provider.destroy.result": _result,
    "attempt.adopted": _fixed("Found the machine by its label"),
    "attempt.not_created": _fixed("Confirmed: no machine was created, nothing is billed"),
    "attempt.gone": _fixed("Confirmed gone: id and label are unknown to the marketplace"),
    "instance.state": _instance,
    "instance.read": _read,
    "ssh.verdict": _ssh,
    "switch.heard": _switch,
    "alert.raised": _alert,
    "alert.cleared": _alert,
}
