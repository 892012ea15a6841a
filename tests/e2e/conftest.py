"""One world per module; the modules run side by side (xdist groups), each world on its own."""

from collections.abc import Generator, Iterator

import pytest

from tests.processes import Template, make_template
from tests.world import World


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, template: Template
) -> Iterator[World]:
    """Running; a module's CLOCK says how fast time passes in it."""
    clock = getattr(request.module, "CLOCK", 20)
    with World(tmp_path_factory.mktemp("world") / "w", template, clock) as world:
        try:
            world.start()
        except AssertionError as error:
            error.add_note(world.tails())
            raise
        yield world


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """A failure shows what the processes had to say."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and world:
        report.sections.append(("logs of the world", world.tails()))
    return report
