"""First boots: cloud-init's write_files and runcmd, carried out in a private root per machine.

The root is a small Debian of hard links to programs that were copied once. As cloud-init does,
runcmd becomes one script of /bin/sh, run as root: a bad quote spoils the lines after it. Nobody
is really root in there (see jail), so `chown` and a few others are stand-ins; who owns what is
in a book that `chown` keeps, and logging in respects it as sshd's StrictModes would.
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from .store import Record

JAIL = Path(__file__).with_name("jail.py")
LOWEST_UID, UIDS = 62_000, 2_000
SECONDS = 60  # real ones, for all commands of a boot together
PROGRAMS = [
    "sh", "bash", "cat", "chmod", "cp", "cut", "date", "dd", "dirname", "basename", "env", "expr",
    "false", "find", "getent", "grep", "egrep", "head", "install", "ln", "ls", "mkdir", "mktemp",
    "mv", "nohup", "od", "paste", "printf", "pwd", "readlink", "realpath", "rm", "rmdir", "sed",
    "seq", "sha256sum", "md5sum", "sleep", "sort", "stat", "tail", "tee", "test", "timeout",
    "touch", "tr", "true", "uname", "uniq", "wc", "xargs", "awk", "base64", "echo", "[",
]  # fmt: skip
HOMES = {"root": PurePosixPath("/root"), "user": PurePosixPath("/home/user")}
FOLDERS = [
    "root", "home/user", "tmp", "dev", "etc", "opt", "srv", "mnt", "run", "usr/local/bin",
    "var/log", "var/tmp", "var/lib/dpkg", "var/lib/simulator", "var/lib/cloud/instance/scripts",
    "workspace",
]  # fmt: skip
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/bash\n",
    "etc/group": "root:x:0:\nuser:x:1000:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\n",
    "etc/hostname": "ubuntu\n",
    "dev/null": "", "dev/zero": "", "dev/urandom": "",
}  # fmt: skip
OWNERS = "var/lib/simulator/owners"
LOCK = "var/lib/dpkg/lock-is-held"
SCRIPT = "var/lib/cloud/instance/scripts/runcmd"
LOG = "var/log/cloud-init-output.log"
SHIMS = {
    "chown": r"""
recursive=- status=0
while case ${1-} in -R) recursive=R ;; -*) ;; *) false ;; esac do shift; done
who=${1%%[:.]*} group=
case $1 in *[:.]*) group=${1#*[:.]} ;; esac
for name in "$who" "$group"; do
    case $name in ''|0|1000|root|user) ;; *) echo "chown: invalid user: '$1'" >&2; exit 1 ;; esac
done
case $who in 0) who=root ;; 1000) who=user ;; esac
shift
for path do
    if [ ! -e "$path" ]; then
        echo "chown: cannot access '$path': No such file or directory" >&2; status=1; continue
    fi
    [ -z "$who" ] || printf '%s %s %s\n' "$who" $recursive "$(realpath -- "$path")" >>/OWNERS
done
exit $status
""",
    "install": r"""
who= left=$#
while [ $left -gt 0 ]; do
    word=$1 left=$((left - 1)); shift
    case $word in
        -o|-g) [ $word = -g ] || who=$1; left=$((left - 1)); shift ;;
        *) set -- "$@" "$word" ;;
    esac
done
install.real "$@" || exit
[ -z "$who" ] || for path do case $path in -*) ;; /*) chown "$who" "$path" ;; esac done
""",
    "id": r"""
case ${1-} in -u|-g|-G) echo 0 ;; -un|-gn) echo root ;; user) echo 'uid=1000(user)' ;;
-u*) echo 0 ;; *) echo 'uid=0(root) gid=0(root) groups=0(root)' ;; esac
""",
    "whoami": "echo root\n",
    "hostname": "cat /etc/hostname\n",
    "sudo": r"""
while case ${1-} in -u|-g) shift ;; -*) ;; *=*) ;; *) false ;; esac do shift; done
exec "$@"
""",
    "apt-get": r"""
case "$*" in *Lock::Timeout*) ;; *) if [ -e /LOCK ]; then
    echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1153' >&2
    exit 100
fi ;; esac
echo 'Reading package lists... Done'
""",
    "systemctl": "exit 0\n",
}
SHIMS |= {"apt": SHIMS["apt-get"], "dpkg": SHIMS["apt-get"], "service": SHIMS["systemctl"]}
SHIMS |= {"chgrp": "exit 0\n", "modprobe": "exit 0\n", "useradd": "exit 9\n"}


@dataclass(frozen=True)
class Boot:
    """What a first boot left behind: (account, public key line) that sshd would accept."""

    keys: list[tuple[str, str]]
    log: str


@dataclass
class Machines:
    """The private roots of all machines, below one directory."""

    directory: Path

    @property
    def base(self) -> Path:
        return self.directory / "base"

    @cached_property
    def works(self) -> bool:
        """Whether commands can be run here at all; the first time this makes the base."""
        return sys.platform == "linux" and self.try_out()

    def try_out(self) -> bool:
        shutil.rmtree(self.base, ignore_errors=True)  # a machine may have spoilt it
        try:
            make_base(self.base)
            log = self.boot("trial", {"runcmd": ["echo it works"]}).log
            if "it works" not in log:
                complain(log.strip()[-200:] or "the shell did not start")
            return "it works" in log
        except (OSError, subprocess.SubprocessError) as problem:
            complain(str(problem))
            return False
        finally:
            self.forget("trial")

    def root(self, name: str) -> Path:
        return self.directory / re.sub(r"[^a-zA-Z0-9-]", "_", name)

    def boot(self, name: str, user_data: Record, *, locked: bool = False) -> Boot:
        """Blocks for as long as the commands take. `locked`: something else holds dpkg's lock."""
        root = self.root(name)
        self.forget(name)
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.base, root, symlinks=True, copy_function=link)
        if locked:
            (root / LOCK).touch()
        with (root / LOG).open("w") as log:
            for line in write_files(root, user_data.get("write_files")):
                log.write(line + "\n")
        make_home(root)
        (root / SCRIPT).write_text(script_of(user_data), errors="surrogatepass")
        run(root, LOWEST_UID + sum(name.encode()) % UIDS)
        shutil.rmtree(root / "usr", ignore_errors=True)  # only what it wrote is of interest now
        return Boot(list(accepted(root)), (root / LOG).read_text(errors="replace"))

    def forget(self, name: str) -> None:
        shutil.rmtree(self.root(name), ignore_errors=True)  # its commands may have locked us out

    def forget_all_but(self, names: set[str]) -> None:
        kept = {self.root(name).name for name in names} | {self.base.name}
        for path in self.directory.iterdir() if self.directory.exists() else ():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def complain(problem: str) -> None:
    text = "cloud-init's commands cannot be run here; ssh_key is installed instead"
    print(f"{text}: {problem}", file=sys.stderr, flush=True)  # noqa: T201


# -- the root


def make_base(base: Path) -> None:
    for name in ("usr/bin", "usr/lib", "usr/lib64", *FOLDERS):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        (base / name).symlink_to(f"usr/{name}")
    (base / "sbin").symlink_to("usr/bin")
    (base / "home" / "user").rmdir()  # no account yet when write_files is carried out
    found = {name: Path(path).resolve() for name in PROGRAMS if (path := shutil.which(name))}
    for name, program in found.items():
        shutil.copy(program, base / "usr/bin" / name)
    add_libraries(base, found.values())
    (base / "usr/bin/install").rename(base / "usr/bin/install.real")
    for name, text in SHIMS.items():
        file = base / "usr/bin" / name
        file.write_text(
            "#!/bin/sh\n" + text.replace("/OWNERS", f"/{OWNERS}").replace("/LOCK", f"/{LOCK}")
        )
        file.chmod(0o755)
    for name, text in TEXTS.items():
        (base / name).write_text(text)


def add_libraries(base: Path, programs: Iterable[Path]) -> None:
    """Of all programs at once: a process for each would be most of a simulator's start."""
    command = ["ldd", *map(str, programs)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603
    for library in set(re.findall(r"(/\S+) \(0x", found.stdout)):
        target = base / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def link(source: str, target: str) -> None:
    """Programs are shared, what a machine may change is its own."""
    if "/usr/" in target and not Path(source).is_symlink():
        os.link(source, target)
    else:
        shutil.copy(source, target)


def make_home(root: Path) -> None:
    (root / "home/user").mkdir(parents=True, exist_ok=True)


def write_files(root: Path, wanted: object) -> Iterator[str]:
    """Before the accounts exist; the lines are for the log. `encoding` is not looked at."""
    for item in wanted if isinstance(wanted, list) else []:
        path = root / str(item["path"]).lstrip("/")
        if not path.resolve().is_relative_to(root.resolve()) or not path.parent.is_dir():
            yield f"write_files: {item['path']}: No such file or directory"
            continue
        path.unlink(missing_ok=True)  # never through it: programs are shared
        path.write_text(str(item.get("content", "")), errors="surrogatepass")
        path.chmod(int(str(item.get("permissions") or "0644"), 8) & 0o777)
        if str(item.get("owner") or "root").partition(":")[0] != "root":
            yield f"write_files: unknown user {item['owner']}; the files after it are not written"
            return


def script_of(user_data: Record) -> str:
    commands = user_data.get("runcmd")
    lines = [
        shlex.join(map(str, line)) if isinstance(line, list) else str(line)
        for line in (commands if isinstance(commands, list) else [])
    ]
    return "\n".join(["#!/bin/sh", *lines, ""])


def run(root: Path, uid: int) -> None:
    if os.geteuid() == 0:
        give_away(root, uid)
    line = [sys.executable, "-I", "-S", str(JAIL), str(root.absolute()), f"/{SCRIPT}", str(uid)]
    with (root / LOG).open("a") as log:
        process = subprocess.Popen(  # noqa: S603
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={}, start_new_session=True
        )
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            log.write("the time is over\n")
        finally:
            process.kill()  # and with it everything inside
            process.wait()


def give_away(root: Path, uid: int) -> None:
    """All but the shared programs."""
    os.chown(root, uid, uid)
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders.remove("usr")
        for name in (*folders, *files):
            os.chown(Path(folder, name), uid, uid, follow_symlinks=False)


# -- who may log in


def accepted(root: Path) -> Iterator[tuple[str, str]]:
    owners = list(book_of(root))
    for account, home in HOMES.items():
        for line in key_file(root, home, account, owners).splitlines():
            if line.strip() and not line.startswith("#"):
                yield account, line.strip()


def key_file(
    root: Path, home: PurePosixPath, account: str, owners: list[tuple[str, str, str]]
) -> str:
    """ "" when sshd would not read it for that account."""
    path = root / str(home).lstrip("/")
    shown = home
    for name, kind in (
        ("", stat.S_ISDIR),
        (".ssh", stat.S_ISDIR),
        ("authorized_keys", stat.S_ISREG),
    ):
        path, shown = path / name, shown / name
        try:
            status = path.lstat()
        except OSError:
            return ""
        need = 4 if kind is stat.S_ISREG else 1
        if not kind(status.st_mode) or not admits(
            status.st_mode, owner(shown, owners), account, need
        ):
            return ""
    if not os.access(path, os.R_OK):
        path.chmod(0o600)  # root may read what its mode denies, and we need not be root
    return path.read_bytes()[:65_536].decode(errors="replace")


def admits(mode: int, owned_by: str, account: str, need: int) -> bool:
    if mode & 0o022 or owned_by not in ("root", account):
        return False
    return account == "root" or bool(mode >> (6 if owned_by == account else 0) & need)


def book_of(root: Path) -> Iterator[tuple[str, str, str]]:
    """(owner, R or -, path) as chown wrote it, the oldest first."""
    path = root / OWNERS
    if not path.is_symlink() and path.is_file():
        for line in path.read_text(errors="surrogateescape").splitlines():
            if line.count(" ") >= 2:
                who, recursive, name = line.split(" ", 2)
                yield who, recursive, name


def owner(path: PurePosixPath, owners: list[tuple[str, str, str]]) -> str:
    found = "user" if path == HOMES["user"] else "root"
    for who, recursive, name in owners:
        if name == str(path) or (recursive == "R" and path.is_relative_to(name)):
            found = who
    return found
