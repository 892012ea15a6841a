"""A shell small enough to read: it knows a dozen commands and the operators ; && || |."""

import shlex
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from . import onstart
from .cloud_init import Machines
from .instances import Instance
from .nvidia import nvidia_smi
from .stock import Machine

OPERATORS = (";", "&&", "||", "|")
Result = tuple[int, str, str]  # exit status, stdout, stderr


@dataclass
class Shell:
    instance: Instance
    machine: Machine
    machines: Machines  # the private roots, where a real shell is to be had
    user: str = "root"
    exited: bool = False
    files: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"C.{self.instance.instance_id}"

    @property
    def home(self) -> str:
        return "/root" if self.user == "root" else f"/home/{self.user}"

    @property
    def prompt(self) -> str:
        return f"{self.user}@{self.host}:~{'#' if self.user == 'root' else '$'} "

    def run(self, line: str) -> Result:
        """One line, every part of it; the status is the last part's."""
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError as problem:
            return 2, "", f"bash: syntax error: {problem}\n"
        status, out, err, piped = 0, "", "", ""
        for operator, part in split(words):
            skipped = (operator == "&&" and status) or (operator == "||" and not status)
            if skipped or self.exited or not part:
                continue
            if operator == "|":
                piped, out = out, ""
            status, more, complaint = self.command(part, piped if operator == "|" else "")
            out, err = out + more, err + complaint
        return status, out, err

    def command(self, words: list[str], piped: str) -> Result:
        quiet = [word for word in words if word in ("2>/dev/null", ">/dev/null", "&>/dev/null")]
        words = [word for word in words if word not in quiet and word != "2>&1"]
        while words and ("=" in words[0] or words[0] in ("sudo", "exec", "command", "-n")):
            words = words[1:]
        if not words:
            return 0, "", ""
        name, arguments = words[0].rpartition("/")[2], words[1:]
        known = getattr(self, f"do_{name.replace('-', '_')}", None)
        if known is None:
            status, out, err = 127, "", f"bash: {name}: command not found\n"
        else:
            status, out, err = known(arguments, piped)
        silent = {">/dev/null", "&>/dev/null"} & set(quiet)
        return status, "" if silent else out, "" if quiet and ">/dev/null" not in quiet else err

    # -- the commands

    def do_nvidia_smi(self, arguments: list[str], piped: str) -> Result:
        return nvidia_smi(self.instance, arguments)

    def do_sh(self, arguments: list[str], piped: str) -> Result:
        """A real one, where the machine's own start script runs as well."""
        if len(arguments) == 2 and arguments[0] == "-c" and self.instance.provider == "vastai":
            return onstart.run(self.machines, self.instance, arguments[1])
        return 127, "", "bash: sh: command not found\n"

    def do_whoami(self, arguments: list[str], piped: str) -> Result:
        return 0, f"{self.user}\n", ""

    def do_hostname(self, arguments: list[str], piped: str) -> Result:
        return 0, f"{self.host}\n", ""

    def do_id(self, arguments: list[str], piped: str) -> Result:
        number = 0 if self.user == "root" else 1000
        if "-u" in arguments:
            return 0, f"{number}\n", ""
        name = f"{number}({self.user})"
        return 0, f"uid={name} gid={name} groups={name}\n", ""

    def do_pwd(self, arguments: list[str], piped: str) -> Result:
        return 0, f"{self.home}\n", ""

    def do_echo(self, arguments: list[str], piped: str) -> Result:
        return 0, " ".join(arguments) + "\n", ""

    def do_true(self, arguments: list[str], piped: str) -> Result:
        return 0, "", ""

    def do_false(self, arguments: list[str], piped: str) -> Result:
        return 1, "", ""

    def do_date(self, arguments: list[str], piped: str) -> Result:
        return 0, datetime.now(UTC).strftime("%a %b %e %H:%M:%S UTC %Y\n"), ""

    def do_ls(self, arguments: list[str], piped: str) -> Result:
        names = ["onstart.sh", *self.files] if self.instance.details.get("onstart") else self.files
        return 0, "".join(f"{name}\n" for name in sorted(names)), ""

    def do_touch(self, arguments: list[str], piped: str) -> Result:
        self.files |= dict.fromkeys(arguments, "")
        return 0, "", ""

    def do_cat(self, arguments: list[str], piped: str) -> Result:
        if not arguments:
            return 0, piped, ""
        if arguments == ["onstart.sh"] and self.instance.details.get("onstart"):
            return 0, f"{self.instance.details['onstart']}\n", ""
        return 1, "", f"cat: {arguments[0]}: No such file or directory\n"

    def do_head(self, arguments: list[str], piped: str) -> Result:
        digits = "".join(char for char in " ".join(arguments) if char.isdigit())
        lines = piped.splitlines(keepends=True)
        return 0, "".join(lines[: int(digits or 10)]), ""

    def do_grep(self, arguments: list[str], piped: str) -> Result:
        pattern = next((word for word in arguments if not word.startswith("-")), "")
        lines = [line for line in piped.splitlines(keepends=True) if pattern in line]
        return int(not lines), "".join(lines), ""

    def do_uname(self, arguments: list[str], piped: str) -> Result:
        if "-a" in arguments:
            return 0, f"Linux {self.host} 5.15.0-125-generic #135-Ubuntu SMP x86_64 GNU/Linux\n", ""
        return (
            0,
            {"-r": "5.15.0-125-generic\n", "-m": "x86_64\n"}.get("".join(arguments), "Linux\n"),
            "",
        )

    def do_nproc(self, arguments: list[str], piped: str) -> Result:
        share = self.instance.gpu_count / self.machine.gpus
        return 0, f"{int((self.machine.cpu_cores or 32) * share)}\n", ""

    def do_df(self, arguments: list[str], piped: str) -> Result:
        size = int(self.instance.disk_gb)
        row = f"overlay          {size}G  4.1G  {max(size - 5, 1)}G   9% /\n"
        return 0, f"Filesystem      Size  Used Avail Use% Mounted on\n{row}", ""

    def do_free(self, arguments: list[str], piped: str) -> Result:
        total = self.machine.ram_mb // 1000
        head = "               total        used        free      shared  buff/cache   available\n"
        return 0, f"{head}Mem:{total:>14}Gi       1.1Gi{total - 2:>10}Gi       1Mi       1Gi\n", ""

    def do_uptime(self, arguments: list[str], piped: str) -> Result:
        minutes = int(max(0.0, time.time() - self.instance.created_at) // 60)
        now = datetime.now(UTC).strftime("%H:%M:%S")
        return 0, f" {now} up {minutes} min,  1 user,  load average: 0.00, 0.01, 0.00\n", ""

    def do_cloud_init(self, arguments: list[str], piped: str) -> Result:
        done = float(str(self.instance.details.get("first_boot_done", 0)))
        state = "done" if 0 < done <= time.time() else "running"
        return 0, f"status: {state}\n", ""

    def do_apt_get(self, arguments: list[str], piped: str) -> Result:
        if time.time() < float(str(self.instance.details.get("dpkg_locked", 0))):
            lock = "/var/lib/dpkg/lock-frontend"
            return 100, "", f"E: Could not get lock {lock}. It is held by process 1153 (apt)\n"
        return 0, "Reading package lists... Done\n", ""

    do_apt = do_dpkg = do_apt_get

    def do_clear(self, arguments: list[str], piped: str) -> Result:
        return 0, "\x1b[H\x1b[2J", ""

    def do_help(self, arguments: list[str], piped: str) -> Result:
        names = sorted(name[3:].replace("_", "-") for name in dir(self) if name.startswith("do_"))
        return 0, "This machine is simulated. It knows: " + " ".join(names) + "\n", ""

    def do_exit(self, arguments: list[str], piped: str) -> Result:
        self.exited = True
        return int(arguments[0]) if arguments and arguments[0].isdigit() else 0, "", ""

    do_logout = do_exit


def split(words: list[str]) -> list[tuple[str, list[str]]]:
    """[(the operator before it, the words)]"""
    parts: list[tuple[str, list[str]]] = [(";", [])]
    for word in words:
        if word in OPERATORS:
            parts.append((word, []))
        else:
            parts[-1][1].append(word)
    return parts
