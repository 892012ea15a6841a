"""Port numbers for processes that must be told theirs; nobody else gets one before it is bound."""

import socket
from collections.abc import Iterable
from random import SystemRandom

PORTS = range(10_000, 15_000)  # the kernel gives them to no connection, `up` takes others
marks: dict[int, socket.socket] = {}  # UDP, of the same number: whoever has it has the port


def free_ports(count: int) -> list[int]:
    """For this process alone among all that run tests, until they are released."""
    untried = iter(SystemRandom().sample(PORTS, len(PORTS)))
    return [next(port for port in untried if reserve(port)) for _ in range(count)]


def reserve(port: int) -> bool:
    mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        mark.bind(("127.0.0.1", port))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        return False
    marks[port] = mark
    return True


def release(ports: Iterable[int]) -> None:
    for port in ports:
        marks.pop(port).close()
