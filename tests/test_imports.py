"""Who may import whom, and how large things may grow: read from the source, nothing is run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("providers", "sessions", "gpubroker")  # each may import those before it
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60
ONLY_IN = {  # library -> the module that may import it
    "requests": {"providers/http.py"},
    "fabric": {"sessions/ssh.py"},
    "paramiko": {"sessions/ssh.py"},
    "invoke": {"sessions/ssh.py"},
}


def sources() -> list[Path]:
    found = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if "migrations" not in path.parts]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module", params=sources(), ids=name_of)
def module(request: pytest.FixtureRequest) -> tuple[Path, ast.Module]:
    path: Path = request.param
    return path, ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """The full dotted name of every imported module, relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *filter(None, [node.module])]), node


def may_import(path: Path, name: str) -> bool:
    top, where = name.split(".")[0], path.relative_to(ROOT).parts
    if where[:2] == ("providers", "simulator"):
        ours = top in ROOMS or top in ("django", "tests")
        return not ours or name.startswith("providers.simulator")
    if top in ONLY_IN and name_of(path) not in ONLY_IN[top]:
        return False
    if top == "asyncssh" or top in ("tests", "bench"):
        return False
    return top not in ROOMS or ROOMS.index(top) <= ROOMS.index(where[0])


def test_imports_go_one_way(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    wrong = [name for name, _ in imported(path, tree) if not may_import(path, name)]
    assert not wrong


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def test_project_modules_are_imported_at_the_top(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    if path.parent.name == "commands":
        return  # a command of several forms loads only what the asked one needs
    inner = [
        f"{function.name}: {name}"
        for function in functions(tree)
        for name, _ in imported(path, function)
        if name.split(".")[0] in ROOMS
    ]
    assert not inner


def test_nothing_grows_too_large(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_MODULE
    long = {
        function.name: function.end_lineno - function.lineno + 1
        for function in functions(tree)
        if function.end_lineno and function.end_lineno - function.lineno >= LINES_OF_A_FUNCTION
    }
    assert not long


PLANTED = [
    ("providers/views.py", "from sessions.models import Session", False),
    ("providers/views.py", "import requests", False),
    ("providers/http.py", "import requests", True),
    ("providers/simulator/world.py", "from django.conf import settings", False),
    ("providers/simulator/world.py", "from ..base import Instance", False),
    ("providers/simulator/world.py", "from .store import Store", True),
    ("providers/simulator/world.py", "import asyncssh", True),
    ("sessions/views.py", "from gpubroker import env", False),
    ("sessions/views.py", "from providers.models import Offer", True),
    ("sessions/views.py", "import paramiko.client", False),
    ("sessions/live.py", "import asyncssh", False),
    ("gpubroker/urls.py", "from sessions import views", True),
    ("gpubroker/urls.py", "from tests import factories", False),
]


@pytest.mark.parametrize(("place", "line", "allowed"), PLANTED)
def test_the_rule_itself(place: str, line: str, allowed: bool) -> None:
    path = ROOT / place
    [(name, _)] = imported(path, ast.parse(line))
    assert may_import(path, name) is allowed
