"""The one place where configuration is read; env.py says what exists."""

import os
from pathlib import Path

from .env import read_environment

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
ROOT = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else PACKAGE

ENV = read_environment(os.environ, Path.cwd() / ".env")
CONFIG_PROBLEMS = ENV.problems  # shown by doctor, on provider cards and in the log

DEBUG = False
DATA_DIR: Path = ENV.data_dir
SECRET_KEY: str = ENV.secret_key
ENCRYPTION_KEYS: tuple[str, ...] = ENV.encryption_keys
DEPLOYMENT_ID: str = ENV["DEPLOYMENT_ID"]
HOST: str = ENV["GPUBROKER_HOST"]
PORT: int = ENV["GPUBROKER_PORT"]
TIME_SCALE: float = ENV["GPUBROKER_TIME_SCALE"]
SIMULATED: bool = ENV["GPUBROKER_SIMULATED"]
LAUNCHES_PER_MINUTE: int = ENV["GPUBROKER_LAUNCHES_PER_MINUTE"]
LAUNCHES_PER_HOUR: int = ENV["GPUBROKER_LAUNCHES_PER_HOUR"]
KEY_DOWNLOADS_PER_HOUR: int = ENV["GPUBROKER_KEY_DOWNLOADS_PER_HOUR"]
PROVIDERS: dict[str, dict[str, str]] = ENV.providers

ALLOWED_HOSTS: list[str] = ENV["GPUBROKER_ALLOWED_HOSTS"]
CSRF_TRUSTED_ORIGINS: list[str] = ENV["GPUBROKER_TRUSTED_ORIGINS"]
HTTPS: bool = ENV["GPUBROKER_HTTPS"]

INSTALLED_APPS = [
    "daphne",
    "gpubroker.apps.AdministrationConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "django_htmx",
    "django_q",
    "axes",
    "csp",
    "providers",
    "sessions",
    "gpubroker.apps.GpubrokerConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",  # pages; the static files are compressed already
    "csp.middleware.CSPMiddleware",
    "gpubroker.middleware.RequestId",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "gpubroker.urls"
ASGI_APPLICATION = "gpubroker.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gpubroker.context.page",
            ],
        },
    },
]

DATABASES = {"default": ENV.database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "offers"
LOGOUT_REDIRECT_URL = "login"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 1  # hours
AXES_LOCKOUT_PARAMETERS = ["ip_address", ["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"

SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-gpubroker" if HTTPS else "gpubroker"
CSRF_COOKIE_HTTPONLY = True  # the page carries the token, see base.html
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATICFILES_DIRS = [ROOT / "static"]
STATIC_ROOT = DATA_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_MANIFEST_STRICT = False

# Each web process has its own layer; only its own tailer writes to it (engine.md section 3).
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    "local": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}

SLOTS = 2  # long-lived slices; each slot may have two older ones that wait for slow calls
Q_CLUSTER = {
    "name": "gpubroker",
    "orm": "default",
    "workers": SLOTS * 3,
    "queue_limit": SLOTS * 3,
    "timeout": 60,
    "retry": 400,  # > longest task * (1 + queue_limit / workers), or prefetched tasks run twice
    "max_attempts": 1,
    "ack_failures": True,  # steps are found again in rows, never in the queue
    "save_limit": -1,  # pruning results is the bottleneck (engine.md section 1)
    "catch_up": False,
    "poll": 0.2,
    "bulk": 1,
    "recycle": 500,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "redact": {"()": "gpubroker.redaction.Redact"},
        "no-polls": {"()": "gpubroker.polls.NoPolls"},
    },
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["redact"],
        },
    },
    "root": {"handlers": ["console"], "level": ENV["GPUBROKER_LOG_LEVEL"]},
    "loggers": {
        "django.request": {"filters": ["no-polls"]},
        "paramiko": {"level": "CRITICAL"},  # its threads print tracebacks of ordinary refusals
        "asyncssh": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        "django-q": {"level": "WARNING"},  # two lines for every slice and canary else
    },
}
