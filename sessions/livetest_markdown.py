"""The live test's report for people.

Text from marketplaces and machines is untrusted here too: it goes into table cells as one line.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from providers import registry

from . import explain
from .livetest_report import Report, Result, status_of


def cell(text: object) -> str:
    """One line that cannot end its cell or begin markup."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\|<>*_\[\]#])", r"\\\1", line) or "–"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return [*lines, ""] if len(lines) > 2 else ["None.", ""]


def markdown(report: Report) -> str:
    parts = [head(report), bug_part(report), warning_part(report), result_part(report)]
    parts += [event_part(report), advice_part(report), summary_part(report)]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def head(report: Report) -> list[str]:
    where = "simulated marketplaces" if report.simulated else "real marketplaces"
    state = "🟢 Passed" if report.ok else "🔴 Not passed"
    most, spend = report.allowance.max_price, report.allowance.max_spend
    return [
        "# Live Test Report",
        "",
        f"**Started:** {report.started_at:%Y-%m-%d %H:%M:%S} UTC  ",
        f"**Ended:** {report.ended_at:%Y-%m-%d %H:%M:%S} UTC"
        + (f" (early: {cell(report.cut)})" if report.cut else "")
        + "  ",
        f"**Status:** {state}, on {where}  ",
        f"**Limits:** ${most}/h, ${spend} in all; spent ${report.spent:.4f}",
        "",
    ]


def bug_part(report: Report) -> list[str]:
    rows = [
        (bug.id, bug.severity, registry.title(bug.provider), bug.description, bug.status)
        for bug in report.bugs
    ]
    lines = ["## Bugs Found", ""]
    lines += table(["ID", "Severity", "Provider", "Description", "Status"], rows)
    for bug in report.bugs:
        lines += [f"- **{bug.id}** evidence: {cell(bug.evidence)}"]
    return [*lines, ""] if report.bugs else lines


def warning_part(report: Report) -> list[str]:
    rows = [(f"{line.at:%H:%M:%S}", line.what, line.details) for line in report.warnings]
    return ["## Warnings Observed", "", *table(["Time", "Warning", "Details"], rows)]


def result_part(report: Report) -> list[str]:
    lines = ["## Test Results", ""]
    for number, each in enumerate(report.results, 1):
        mark = "✅ PASS" if each.passed else "❌ FAIL"
        lines += [f"### {registry.title(each.provider)} Provisioning Test #{number} {mark}"]
        lines += [f"- **{name}:** {text}" for name, text in facts(each) if text] + [""]
    return lines


def facts(each: Result) -> Iterator[tuple[str, str]]:
    yield "Not launched", cell(each.refused) if each.refused else ""
    if not each.session:
        return
    yield "Offer", cell(each.offer)
    yield "Offers tried", str(each.offers_tried)
    yield "Session ID", f"`{each.session}`"
    yield "Instances", cell(", ".join(each.instances)) if each.instances else "none created"
    took = each.provisioning_seconds
    yield "Provisioning time", "" if took is None else f"{took:g} seconds"
    yield "SSH Host", cell(each.host) if each.host else ""
    yield "SSH verification", f"{each.ssh_attempts} attempts"
    yield "GPU confirmed", cell(each.gpu) if each.gpu else ""
    for login in each.logins:
        mark = "✅" if login.ok else "❌"
        yield f"Login as {login.account} by {login.key}", f"{mark} {cell(login.words)}"
    yield "Ended by itself", cell(explain.reason(each.reason).title) * (each.reason != "user")
    took = each.cleanup_seconds
    proof = "absence proven" if each.gone else "❌ NOT proven gone"
    yield "Cleanup", proof + ("" if took is None else f" in {took:g} seconds")
    yield "Cost", f"${each.cost:.4f}"


def event_part(report: Report) -> list[str]:
    rows = [(f"{line.at:%H:%M:%S}", line.what, line.details) for line in report.events]
    return ["## Session Events", "", *table(["Time", "Event", "Details"], rows)]


def advice_part(report: Report) -> list[str]:
    open_ones = [bug for bug in report.bugs if bug.status == "OPEN"]
    advice = [f"**{bug.id}:** {cell(bug.advice or bug.description)}" for bug in open_ones]
    lines = [f"{number}. {text}" for number, text in enumerate(advice, 1)]
    return ["## Recommendations", "", *(lines or ["None."]), ""]


def summary_part(report: Report) -> list[str]:
    heads = ["Provider", "Provisioning", "SSH Verification", "Second Login", "Cleanup", "Status"]
    lines = ["## Summary", "", f"| {' | '.join(heads)} |", f"|{'|'.join('---' for _ in heads)}|"]
    for name in report.providers:
        mine = [each for each in report.results if each.provider == name]
        marks = [
            any(each.booted for each in mine),
            any(ours(each) for each in mine),
            any(persons(each) for each in mine),
            bool(mine) and all(each.gone for each in mine),
        ]
        words = ["✅ Works" if mark else "❌ Fails" for mark in marks]
        line = [registry.title(name), *words, f"**{cell(status_of(report, name))}**"]
        lines.append(f"| {' | '.join(line)} |")
    return [*lines, ""]


def ours(each: Result) -> bool:
    checks = [login.ok for login in each.logins if login.key.startswith("gpubroker")]
    return bool(checks) and all(checks)


def persons(each: Result) -> bool:
    return any(login.ok for login in each.logins if login.key.startswith("a person"))
