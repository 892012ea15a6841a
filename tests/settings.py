"""The real settings on a data directory of their own, with no credential of the developer's.

Loaded by `--ds=tests.settings`, which pytest-django reads before any conftest. Processes that
tests start inherit this environment and load gpubroker.settings themselves.
"""

import os
import tempfile

for _name in list(os.environ):
    if _name.startswith(("GPUBROKER_", "VASTAI_", "VAST_", "TENSORDOCK_", "DEPLOYMENT_ID")):
        del os.environ[_name]
# Set but empty hides the value in a developer's .env file.
os.environ |= {
    "PYTHONDONTWRITEBYTECODE": "",  # hundreds of processes are started: none compiles Django anew
    "DJANGO_SETTINGS_MODULE": "gpubroker.settings",
    "GPUBROKER_DATA_DIR": tempfile.mkdtemp(prefix="gpubroker-test-"),
    "GPUBROKER_LOG_LEVEL": "WARNING",
    "GPUBROKER_LAUNCHES_PER_MINUTE": "100000",  # tests launch in bulk
    "GPUBROKER_LAUNCHES_PER_HOUR": "100000",
    "GPUBROKER_KEY_DOWNLOADS_PER_HOUR": "100000",
    "VASTAI_API_KEY": "",
    "VASTAI_BASE_URL": "",
    "TENSORDOCK_API_TOKEN": "",
    "TENSORDOCK_BASE_URL": "",
    "GPUBROKER_TIME_SCALE": "",
    "GPUBROKER_SIMULATED": "",
    "DEPLOYMENT_ID": "",
    "DATABASE_URL": os.environ.get("TEST_DATABASE_URL", ""),
}

from gpubroker.settings import *  # noqa: E402, F403

# Nothing is collected for tests: plain names instead of hashed ones.
STORAGES |= {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}  # noqa: F405
STATIC_ROOT.mkdir()  # noqa: F405 - whitenoise warns else
