"""Runs one shell script inside a private root: `python -I -S jail.py ROOT SCRIPT UID [HOW]`.

A program of its own, because it gives up rights that the simulator needs. Root is exchanged for
the powerless account UID; everybody else enters a user namespace first, where nothing but their
own account exists. Either way the script has no capability left, so it cannot leave the root.
The script's network, processes and mounts are its own as far as the system allows that.

HOW is `line` when SCRIPT is the text itself and no file. With `stay`, what the script leaves in
the background lives on until it ends by itself, or until this program is told to end (SIGTERM) or
loses its parent; else everything ends with the script. What is its standard input here is open
there as number 9: the line to the simulator.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
NEW_IPC, NEW_PROCESSES, NEW_NETWORK = 0x08000000, 0x20000000, 0x40000000
BIND, RECURSIVE, PRIVATE = 1 << 12, 1 << 14, 1 << 18
DIE_WITH_PARENT, INHERIT_ORPHANS = 1, 36
INNER_UID = 1000  # not 0: an exec as 0 would bring all capabilities back
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
LIMITS = {
    resource.RLIMIT_CPU: 10,  # seconds
    resource.RLIMIT_FSIZE: 2**26,
    resource.RLIMIT_AS: 2**30,
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_CORE: 0,
}
PROCESSES = 128
STAY, LINE = "stay", "line"
PHONE = 9
HANDED_ON = ("CONTAINER_", "VAST_")  # variables of ours that the script gets too

libc = ctypes.CDLL(None, use_errno=True)


def main(root: str, script: str, uid: int, how: str) -> int:
    """The script's exit status, or 0 when it stayed."""
    is_root = os.geteuid() == 0
    own_processes = separate(is_root)
    child = os.fork()
    if child == 0:
        if how == STAY:
            os.dup2(0, PHONE)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            outlive_script()
        enter(root, uid if is_root else 0)
        given = {k: v for k, v in os.environ.items() if k.startswith(HANDED_ON)}
        start(script, ENVIRONMENT | given, how)
    if how == STAY:
        libc.prctl(DIE_WITH_PARENT, signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    if is_root and not own_processes:
        end_all(uid)
    return abs(os.waitstatus_to_exitcode(status))


def start(script: str, environment: dict[str, str], how: str) -> None:
    """A script that may stay is run by the program that it names itself, if it names one."""
    if how == LINE:
        os.execve("/bin/sh", ["sh", "-c", script], environment)
    if how == STAY:
        with contextlib.suppress(OSError):  # no #!, or its program is not there
            os.execve(script, [script], environment)
    os.execve("/bin/sh", ["sh", script], environment)


def outlive_script() -> None:
    """Returns in a child; the parent inherits what the script leaves behind, until it is gone."""
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    libc.prctl(INHERIT_ORPHANS, 1)
    if os.fork() == 0:
        return
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def separate(is_root: bool) -> bool:
    """Whether all processes of the script end with its first one."""
    own = NEW_MOUNTS | NEW_IPC | NEW_PROCESSES | NEW_NETWORK
    if is_root:  # in a container it may lack the right, and then shares these with the simulator
        return libc.unshare(own) == 0
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(NEW_USER | own):
        raise OSError(ctypes.get_errno(), "no user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INNER_UID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INNER_UID} {gid} 1")
    return True


def enter(root: str, uid: int) -> None:
    """uid 0 = stay who we are."""
    if libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None) == 0:
        for name in ("null", "zero", "urandom"):
            libc.mount(f"/dev/{name}".encode(), f"{root}/dev/{name}".encode(), None, BIND, None)
    os.chroot(root)
    os.chdir("/")
    os.umask(0o022)
    for name, most in LIMITS.items():
        resource.setrlimit(name, (most, most))
    if uid:
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)


def end_all(uid: int) -> None:
    """Every process of that account: nobody else uses it."""
    child = os.fork()
    if child == 0:
        os.setuid(uid)
        os.kill(-1, signal.SIGKILL)  # not ourselves
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), "".join(sys.argv[4:])))
