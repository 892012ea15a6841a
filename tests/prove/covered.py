"""How many lines of the deciding module its own tests run (safety.md 6.11).

    python -m tests.prove.covered

The interpreter's own tracing; it tells lines, no branches.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

from tests.prove.figures import record

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "sessions" / "lifecycle.py"
TESTS = ("tests/sessions/test_lifecycle.py", "tests/sessions/test_idle.py")


def lines_of(path: Path) -> set[int]:
    """Lines inside functions that the compiler made code for."""
    whole = compile(path.read_text(), str(path), "exec")
    return {line for code in functions(whole) for line in inside(code)}


def functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from functions(constant)
            if constant.co_flags & 0x2:  # CO_NEWLOCALS: a function, not the body of a class
                yield constant


def inside(code: CodeType) -> Iterator[int]:
    for _, _, line in code.co_lines():
        if line is not None and line != code.co_firstlineno:
            yield line


def ran(path: Path, act: Callable[[], object]) -> set[int]:
    """The lines of this file that run while `act` does."""
    found: set[int] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Callable | None:
        if frame.f_code.co_filename != str(path):
            return None
        if event == "line":
            found.add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return found


def main() -> int:
    codes: list[int] = []
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTS]
    hit = ran(MODULE, lambda: codes.append(pytest.main(arguments)))
    every = lines_of(MODULE)
    missed = sorted(every - hit)
    record("decide", lines=len(every), covered=len(every) - len(missed), missed=missed)
    print(f"lines of decide(): {len(every) - len(missed)} of {len(every)} run, not: {missed}")
    return 1 if any(codes) or missed else 0


if __name__ == "__main__":
    sys.exit(main())
