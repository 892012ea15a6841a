"""The dead man's switch: an instance that destroys itself when nobody does it any more (I10).

A loop in the instance's start script waits until `GRACE_SECONDS` after the session's end, then
asks the marketplace to destroy the instance, with the key that every container is given for
itself. The end stands in a file; it may be moved later, never earlier, and never behind `latest`.

No clock is trusted alone. The loop counts the seconds it has lived, which are never too many: it
acts when the clock says so and the session's whole span was lived through, or when the span and
the grace were, whatever the clock says.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from . import waits

GRACE_SECONDS = 1800
TICK_SECONDS = 60
OLDEST_TICKS = 5  # a loop that has not ticked for longer is not believed to live
FOLDER = "/root/.gpubroker"
SAFE_URL = re.compile(r"https?://[A-Za-z0-9.:/_-]+")
REPORT = re.compile(r"^gpubroker-switch ([0-9]{9,11}) (ready|helpless) ([0-9]{1,6})$", re.MULTILINE)

LOOP = """\
( (
set +eu; trap '' HUP
mkdir -p {folder}; cd {folder} && command -v sleep || exit
own() {{ tr '\\0' '\\n' </proc/1/environ | sed -n "s/^$1=//p"; }}
i=${{CONTAINER_ID:-$(own CONTAINER_ID)}} k=${{CONTAINER_API_KEY:-$(own CONTAINER_API_KEY)}}
can=helpless; for p in curl python3 wget; do
command -v $p && [ -n "$i" ] && [ -n "$k" ] && can=ready; done
u={base}/api/v0/instances/$i/ a="Authorization: Bearer $k" j='Content-Type: application/json'
[ -s until ] || echo {end} >until
n=0; [ -s lived ] && read n <lived
case $n in *[!0-9]*) n=0;; esac
while :; do
t={end}; read t <until
case $t in ''|*[!0-9]*) t={end};; esac
[ $t -ge {end} ] || t={end}
[ $t -le {latest} ] || t={latest}
now=$(date +%s); echo $t $can $now >said; mv said beat
s=$((t-{start}))
if [ $n -ge $((s+{grace})) ] || {{ [ $n -ge $s ] && [ $now -ge $((t+{grace})) ]; }}; then
curl -fsSm 60 -X DELETE -H "$a" -H "$j" -d '{{}}' $u ||
python3 -c 'import sys,urllib.request as r
h=dict(x.split(": ") for x in sys.argv[2:])
r.urlopen(r.Request(sys.argv[1],b"{{}}",h,method="DELETE"),None,60)' \
$u "$a" "$j" ||
wget -qO- -T60 --method=DELETE --header="$a" --header="$j" --body-data='{{}}' $u
fi
sleep {tick} && n=$((n+{tick})); echo $n >lived
done
) </dev/null >/dev/null 2>&1 & )
"""
MOVE = (
    "cd {folder} && read t <until && [ $t -lt {end} ] && echo {end} >next && mv next until;"
    " read t can at <beat && echo gpubroker-switch $t $can $(($(date +%s)-at))"
)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """How long an instance may live. Aware instants, start < end <= latest."""

    start: datetime  # when it was asked for: it cannot be older than that
    end: datetime  # of the session, as it stands
    latest: datetime  # where the end may be moved to


def guarded(script: str, lease: Lease, base_url: str) -> str:
    """The start script with the loop in front. ValueError for an address no shell should see.

    In front, because the script may `exit` or never end; in a background that `wait` and `jobs`
    do not see. A script for another program than a shell is kept whole and started by one.
    """
    first, _, rest = script.partition("\n")
    if not first.startswith("#!"):
        return f"{loop(lease, base_url)}{script}"
    if re.search(r"\b(ba|da|z|k)?sh\b", first):
        return f"{first}\n{loop(lease, base_url)}{rest}"
    return f"#!/bin/sh\n{loop(lease, base_url)}{started(script)}"


def loop(lease: Lease, base_url: str) -> str:
    if not SAFE_URL.fullmatch(base_url):
        raise ValueError("not an address that can stand in a script")
    tick = max(1, int(waits.seconds(TICK_SECONDS)))
    return LOOP.format(
        folder=FOLDER,
        base=base_url.rstrip("/"),
        start=epoch(lease.start),
        end=epoch(lease.end),
        latest=epoch(lease.latest),
        grace=max(1, int(waits.seconds(GRACE_SECONDS))),
        tick=tick,
    )


def started(script: str) -> str:
    """Through a file, byte for byte; the program's exit status is the script's."""
    mark = "GPUBROKER"
    while mark in script:
        mark += "_"
    end = "" if script.endswith("\n") else "\n"
    file = f"{FOLDER}.start"
    return f"cat >{file} <<'{mark}'\n{script}{end}{mark}\nchmod 700 {file}\nexec {file}\n"


def move_command(end: datetime) -> str:
    """For a shell on the instance: not before `end`, and say by what the loop goes now."""
    return f"sh -c '{MOVE.format(folder=FOLDER, end=epoch(end))}'"


@dataclass(frozen=True, kw_only=True)
class Report:
    end: datetime  # that the loop goes by
    ready: bool  # it has all that it needs to destroy the instance, and is alive


def report(output: str) -> Report | None:
    """What the machine said; None when nothing like a switch answered."""
    match = REPORT.search(output)
    if not match:
        return None
    age, oldest = int(match[3]), max(10, waits.seconds(OLDEST_TICKS * TICK_SECONDS))
    return Report(
        end=datetime.fromtimestamp(int(match[1]), UTC),
        ready=match[2] == "ready" and age <= oldest,
    )


def epoch(at: datetime) -> int:
    """Whole seconds, rounded up: never early."""
    return -int(-at.timestamp() // 1)
