"""Every variable that gpubroker reads, defined once; settings.py asks here and nowhere else.

Environment variables win over the `.env` file. An empty value counts as not set. Each secret
may come from a file instead (`NAME_FILE`). What cannot be believed stops the start
(ImproperlyConfigured); what merely looks wrong is a sentence in `Environment.problems`.
"""

import os
import secrets
import string
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

Value = str | int | float | bool | list[str]

PREFIXES = ("GPUBROKER_", "VASTAI_", "VAST_", "TENSORDOCK_")
MISNOMERS = {
    "TENSORDOCK_API_KEY": "TENSORDOCK_API_TOKEN",
    "TENSORDOCK_TOKEN": "TENSORDOCK_API_TOKEN",
    "TENSORDOCK_AUTH_ID": "TENSORDOCK_API_TOKEN",
    "VAST_API_KEY": "VASTAI_API_KEY",
    "VASTAI_API_TOKEN": "VASTAI_API_KEY",
    "VASTAI_KEY": "VASTAI_API_KEY",
}
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SQLITE_OPTIONS = {  # measured: nothing is lost to "database is locked"
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000"
    ),
}


def _text(text: str) -> str:
    return text


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.lower() == "true"


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError("is not a port number (1 to 65535)")
    return int(text)


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not 1 <= factor <= 10_000:
        raise ValueError("must be between 1 (real time) and 10000")
    return factor


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise ValueError("is not a number from 1 to 100000")
    return int(text)


def _level(text: str) -> str:
    if text.upper() not in LEVELS:
        raise ValueError(f"is not one of {', '.join(LEVELS)}")
    return text.upper()


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _hosts(text: str) -> list[str]:
    hosts = _list(text)
    if "*" in hosts:
        raise ValueError("may not hold *: name the hosts people really use")
    return hosts


def _origins(text: str) -> list[str]:
    origins = _list(text)
    for origin in origins:
        if urlsplit(origin).scheme not in ("http", "https") or not urlsplit(origin).netloc:
            raise ValueError("must hold whole origins such as https://gpus.example.org")
    return origins


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an http(s) address")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("may hold neither a user name nor a query")
    return text.rstrip("/")


def _secret_key(text: str) -> str:
    if len(text) < 50 or len(set(text)) < 5 or text.startswith("django-insecure-"):
        raise ValueError("must be at least 50 random characters")
    return text


def _fernet_keys(text: str) -> list[str]:
    keys = _list(text)
    try:
        [Fernet(key) for key in keys]
    except ValueError:
        raise ValueError("must hold Fernet keys (32 random bytes in url-safe base64)") from None
    return keys


@dataclass(frozen=True, kw_only=True)
class Variable:
    name: str
    help: str
    default: str = ""
    parse: Callable[[str], Value] = _text
    secret: bool = False


VARIABLES = (
    Variable(
        name="VASTAI_API_KEY", secret=True, help="Key of the Vast.ai account. Empty = not used."
    ),
    Variable(
        name="TENSORDOCK_API_TOKEN",
        secret=True,
        help="Token of the TensorDock account. Empty = not used.",
    ),
    Variable(
        name="VASTAI_BASE_URL",
        default="https://console.vast.ai",
        parse=_url,
        help="Where Vast.ai answers; other than https only on this machine.",
    ),
    Variable(
        name="TENSORDOCK_BASE_URL",
        default="https://dashboard.tensordock.com",
        parse=_url,
        help="Where TensorDock answers; other than https only on this machine.",
    ),
    Variable(
        name="DEPLOYMENT_ID",
        help="Confirms the deployment id in the database. Another one makes gpubroker read-only.",
    ),
    Variable(
        name="DATABASE_URL",
        secret=True,
        help="postgres://user:password@host:5432/name. Empty = SQLite in the data directory.",
    ),
    Variable(name="GPUBROKER_HOST", default="127.0.0.1", help="Address the web server binds."),
    Variable(name="GPUBROKER_PORT", default="8080", parse=_port, help="Port it listens on."),
    Variable(
        name="GPUBROKER_DATA_DIR",
        default="./var",
        help="Database, keys and static files. Back it up, and keep it private.",
    ),
    Variable(
        name="GPUBROKER_SECRET_KEY",
        secret=True,
        parse=_secret_key,
        help="Signs cookies and links. Empty = generated once in the data directory.",
    ),
    Variable(
        name="GPUBROKER_ENCRYPTION_KEY",
        secret=True,
        parse=_fernet_keys,
        help="Fernet keys, newest first, comma separated. Empty = generated once.",
    ),
    Variable(
        name="GPUBROKER_ALLOWED_HOSTS",
        default="localhost,127.0.0.1,[::1]",
        parse=_hosts,
        help="Host names under which people open the dashboard, comma separated.",
    ),
    Variable(
        name="GPUBROKER_TRUSTED_ORIGINS",
        parse=_origins,
        help="Whole origins that may post forms when behind a proxy: https://gpus.example.org",
    ),
    Variable(
        name="GPUBROKER_HTTPS",
        default="false",
        parse=_boolean,
        help="true behind a proxy that ends TLS and sets X-Forwarded-Proto.",
    ),
    Variable(
        name="GPUBROKER_LAUNCHES_PER_MINUTE", default="5", parse=_count, help="For one person."
    ),
    Variable(
        name="GPUBROKER_LAUNCHES_PER_HOUR", default="30", parse=_count, help="For one person."
    ),
    Variable(
        name="GPUBROKER_KEY_DOWNLOADS_PER_HOUR",
        default="10",
        parse=_count,
        help="Generated SSH keys that one person may download.",
    ),
    Variable(name="GPUBROKER_LOG_LEVEL", default="INFO", parse=_level, help=", ".join(LEVELS)),
    Variable(
        name="GPUBROKER_TIME_SCALE",
        default="1",
        parse=_factor,
        help="Divides every waiting time; for simulations and tests only.",
    ),
    Variable(
        name="GPUBROKER_SIMULATED",
        default="false",
        parse=_boolean,
        help="true = the marketplaces are simulated; every page says so.",
    ),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}
CREDENTIALS = {
    "vastai": ("VASTAI_API_KEY", "VASTAI_BASE_URL"),
    "tensordock": ("TENSORDOCK_API_TOKEN", "TENSORDOCK_BASE_URL"),
}


class Environment:
    """The typed values of all variables. Files are made only when a property asks for them."""

    def __init__(self, texts: Mapping[str, str], problems: list[str]) -> None:
        self.texts = texts  # only what was set
        self.values = {
            variable.name: _parsed(variable, texts.get(variable.name, variable.default))
            for variable in VARIABLES
        }
        self.problems = problems + list(self._provider_problems())

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    @cached_property
    def data_dir(self) -> Path:
        path = Path(str(self["GPUBROKER_DATA_DIR"])).expanduser().resolve()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ImproperlyConfigured(f"GPUBROKER_DATA_DIR {path}: {error.strerror}") from error
        return path

    @cached_property
    def secret_key(self) -> str:
        alphabet = string.ascii_letters + string.digits
        return str(self["GPUBROKER_SECRET_KEY"]) or kept_secret(
            self.data_dir / "secret_key",
            lambda: "".join(secrets.choice(alphabet) for _ in range(64)),
        )

    @cached_property
    def encryption_keys(self) -> tuple[str, ...]:
        """Fernet keys, newest first; never derived from the secret key."""
        path = self.data_dir / "encryption_key"
        return tuple(
            self["GPUBROKER_ENCRYPTION_KEY"]
            or _parsed(
                BY_NAME["GPUBROKER_ENCRYPTION_KEY"],
                kept_secret(path, lambda: Fernet.generate_key().decode()),
            )
        )

    @cached_property
    def database(self) -> dict[str, object]:
        """Django's DATABASES entry. CONN_MAX_AGE 0: the web process leaks connections else."""
        url = str(self["DATABASE_URL"])
        if not url:
            path = self.data_dir / "gpubroker.sqlite3"
            path.touch(mode=0o600)  # people's sign-ins are in it; its journals get the same mode
            return _sqlite({"NAME": str(path)})
        scheme = url.partition(":")[0]
        if scheme not in ("sqlite", "postgres", "postgresql"):
            raise ImproperlyConfigured("DATABASE_URL must start with postgres:// or sqlite:///")
        try:
            config = environ.Env.db_url_config(url)
        except ValueError:  # its words may hold the password
            raise ImproperlyConfigured("DATABASE_URL is not a database address") from None
        return _sqlite(config) if scheme == "sqlite" else config | {"CONN_MAX_AGE": 0}

    @cached_property
    def providers(self) -> dict[str, dict[str, str]]:
        """{"vastai": {"api_key", "base_url"}, ...}: only those with a credential."""
        return {
            name: {"api_key": str(self[key]), "base_url": str(self[base])}
            for name, (key, base) in CREDENTIALS.items()
            if self[key] and not self._insecure(base)
        }

    def _insecure(self, base: str) -> bool:
        parts = urlsplit(str(self[base]))
        near = parts.hostname in LOOPBACK or bool(self["GPUBROKER_SIMULATED"])
        return parts.scheme != "https" and not near

    def _provider_problems(self) -> Iterator[str]:
        for key, base in CREDENTIALS.values():
            if base in self.texts and not self[key]:
                yield f"{base} is set, but {key} is not: the provider stays off."
            if self[key] and self._insecure(base):
                yield f"{base} is not https: {key} will not be sent there, the provider stays off."


def read_environment(environment: Mapping[str, str], dotenv_path: Path) -> Environment:
    """All variables from the environment and, where it has none, from the `.env` file."""
    texts = _with_dotenv(environment, dotenv_path)
    found: dict[str, str] = {}
    problems = list(_strangers(texts))
    for variable in VARIABLES:
        text, problem = _text_of(variable, texts)
        if text:
            found[variable.name] = text
        if problem:
            problems.append(problem)
    return Environment(found, problems)


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The text of a private file, made once even when several processes start together."""
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(make() + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # fails where another process was first
        except FileExistsError:
            pass  # then its text is the one to read
        finally:
            os.unlink(temporary)
    text = path.read_text().strip()
    if not text:
        raise ImproperlyConfigured(f"{path} is empty; restore it from a backup")
    return text


def _with_dotenv(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    reader = type("Reader", (environ.Env,), {"ENVIRON": dict(environment)})
    if path.is_file():
        reader.read_env(str(path))  # never overwrites what the environment says
    return reader.ENVIRON


def _text_of(variable: Variable, texts: Mapping[str, str]) -> tuple[str, str]:
    """(text, problem) of one variable; a secret may stand in a file."""
    name, text = variable.name, texts.get(variable.name, "").strip()
    path = texts.get(f"{name}_FILE", "").strip() if variable.secret else ""
    if not path:
        return text, ""
    if text:
        return text, f"{name} and {name}_FILE are both set: the file is ignored."
    try:
        return Path(path).read_text().strip(), ""
    except (OSError, UnicodeDecodeError) as error:
        return "", f"{name}_FILE cannot be read ({type(error).__name__}): {name} is not set."


def _strangers(texts: Mapping[str, str]) -> Iterator[str]:
    """A sentence about each name that looks like ours and is not."""
    files = {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret}
    for name in sorted(texts):
        if name.startswith(PREFIXES) and name not in BY_NAME and name not in files and texts[name]:
            near = MISNOMERS.get(name) or next(iter(get_close_matches(name, BY_NAME, 1, 0.75)), "")
            advice = f"; the right name is {near}" if near else ""
            yield f"{name} is not a variable of gpubroker{advice}. It is ignored."


def _parsed(variable: Variable, text: str) -> Value:
    if not text:
        return [] if variable.parse in (_list, _hosts, _origins, _fernet_keys) else ""
    try:
        return variable.parse(text)
    except ValueError as error:
        shown = "" if variable.secret else f"={text!r}"
        raise ImproperlyConfigured(f"{variable.name}{shown} {error}") from None


def _sqlite(config: Mapping[str, object]) -> dict[str, object]:
    return {
        **config,
        "ENGINE": "django.db.backends.sqlite3",
        "CONN_MAX_AGE": 0,
        "OPTIONS": SQLITE_OPTIONS,
    }
