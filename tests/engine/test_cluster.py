"""kill -9 at each process of the cluster: work goes on, and nothing is left behind."""

from collections.abc import Iterator

import pytest

from gpubroker.supervise import Child, django_command

from .machine import Machine, alive, children, descendants, kill, until

pytestmark = pytest.mark.xdist_group("engine")


@pytest.fixture
def cluster(machine: Machine) -> Iterator[Child]:
    child = Child("cluster", django_command("worker", "--cluster"), machine.environment)
    child.ensure()
    yield child
    child.kill()


def test_work_goes_on_after_every_worker_and_the_monitor_died(
    machine: Machine, cluster: Child
) -> None:
    """Among them: the worker next in line and the monitor, each of which held a queue's lock."""
    machine.works("before")
    (sentinel,) = children(cluster.pid)
    helpers = children(sentinel)
    kill(*helpers)
    until(lambda: not any(map(alive, helpers)), "they are dead")
    machine.works("after")
    assert children(cluster.pid) == [sentinel]


@pytest.mark.parametrize("victim", ["sentinel", "main"])
def test_nothing_outlives_its_parent(machine: Machine, cluster: Child, victim: str) -> None:
    machine.works("before")
    tree = [cluster.pid, *descendants(cluster.pid)]
    kill(cluster.pid if victim == "main" else children(cluster.pid)[0])
    until(lambda: not any(map(alive, tree)), "the whole tree is gone")
    until(cluster.ensure, "it is started again")
    machine.works("after")
