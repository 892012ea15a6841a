"""python -m bench.offers [offers]: server time of the offers page, for several questions.

Everything of a request but the network: middleware, counts, rows, template, in a process that is
set up as a web process. On SQLite, and on PostgreSQL as well where TEST_DATABASE_URL names one.
Figures, not tests: nothing fails.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles

OFFERS = 100_000
TIMES = 40
COUNTRIES = ("US", "US", "US", "DE", "ES", "FR", "GB", "SE", "NO", "CA", "JP", "KR", "IN", "AU")
QUESTIONS = {
    "everything": "",
    "one GPU": "gpu=RTX+4090",
    "two GPUs, two countries": "gpu=RTX+4090&gpu=H100+SXM&country=DE&country=US",
    "all filters": "gpu=RTX+4090&count=2&memory=20&price=3&reliability=90&verified=1",
    "cheapest per GPU": "sort=gpu",
    "most memory, 100 GB disk": "sort=size&disk=100",
    "page 900": "page=900",
    "by GPU": "view=gpu",
    "by GPU, verified": "view=gpu&verified=1",
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fill(number: int) -> None:
    from django.utils import timezone

    from providers import catalog, gpus, history
    from providers.models import Offer
    from tests.factories import make_offer

    dice = random.Random(7)
    now = timezone.now()
    like = make_offer(changed_at=now - timedelta(hours=1))
    columns = {f.name: getattr(like, f.name) for f in Offer._meta.fields if f.name != "id"}
    for start in range(0, number, 5000):
        rows = [
            Offer(**columns | _one(dice, n, gpus.GPUS))
            for n in range(start, min(number, start + 5000))
        ]
        Offer.objects.bulk_create(rows, batch_size=1000)
    catalog.changed("vastai", now)
    catalog.changed("tensordock", now)
    history.collect("vastai", now)


def _one(dice: random.Random, n: int, known: tuple) -> dict[str, object]:
    gpu = known[min(int(dice.expovariate(1 / 12)), len(known) - 1)]
    count = dice.choice((1, 1, 1, 2, 4, 8))
    price = Decimal(str(round(count * (0.1 + len(gpu.name) / 10) * dice.uniform(0.5, 2), 6)))
    return {
        "provider": dice.choice(("vastai", "vastai", "vastai", "tensordock")),
        "offer_id": f"bench-{n}",
        "gpu_name": gpu.name,
        "gpu_name_raw": gpu.name,
        "gpu_count": count,
        "gpu_memory_mb": dice.choice((8192, 16384, 24564, 49140, 81559)),
        "base_price_per_hour": price,
        "disk_price_per_gb_hour": Decimal(str(round(dice.uniform(0, 0.0005), 9))),
        "disk_gb_max": dice.choice((30, 100, 500, 4000)),
        "reliability": dice.uniform(0.8, 1),
        "country": dice.choice(COUNTRIES),
        "verified": dice.random() < 0.6,
        "inet_down_mbps": dice.randrange(10, 10_000),
    }


def ask(
    name: str,
    get: Callable[[str], object],
    query: str,
    before: Callable[[], None] = lambda: None,
) -> None:
    """The first answer, then p50 and p95 of the others; the same of processor time alone, which
    tells what a machine with nothing else to do would need. `before` each, not counted."""
    times, busy = [], []
    for _ in range(TIMES + 1):
        before()
        begun, used = time.perf_counter(), time.thread_time()
        answer = get(f"/?{query}")
        times.append((time.perf_counter() - begun) * 1000)
        busy.append((time.thread_time() - used) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"/?{query} answered {answer.status_code}")
    cuts, used_cuts = quantiles(times[1:], n=20), quantiles(busy[1:], n=20)
    figures = (times[0], cuts[9], cuts[18], used_cuts[9], used_cuts[18])
    say(f"  {name:<36}" + "".join(f"{figure:>9.1f}" for figure in figures))


def measure(number: int) -> None:
    """In a database of its own, which is gone afterwards."""
    import django

    django.setup()
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import setup_test_environment

    files = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": files}  # as they lie
    setup_test_environment()
    if connection.vendor == "sqlite":  # a file, as threads share it
        connection.settings_dict["TEST"]["NAME"] = str(settings.DATA_DIR / "bench.sqlite3")
    connection.creation.create_test_db(verbosity=0)
    try:
        import gpubroker.asgi  # noqa: F401  what a web process does with its memory

        _measure(number, connection.vendor, Client())
    finally:
        connection.creation.destroy_test_db(":memory:", verbosity=0)


def _measure(number: int, vendor: str, client: object) -> None:
    from sessions import identity
    from tests.factories import make_health, make_user

    identity.ensure()
    make_health("vastai")
    client.force_login(make_user("ada"), backend="django.contrib.auth.backends.ModelBackend")
    fill(number)
    say(f"\n{vendor}, {number:,} offers, {TIMES} answers each, ms")
    say(f"  {'':<36}    first      p50      p95  cpu p50  cpu p95")
    for name, query in QUESTIONS.items():
        ask(name, client.get, query)
    prices = iter(range(1, 1000))

    def priced(path: str) -> object:
        return client.get(f"{path}{next(prices) / 100}")

    ask("another ceiling each time", priced, "price=")
    _after_news(number, client)


def _after_news(number: int, client: object) -> None:
    """Questions that come with the news, and some time later: the keeper is busy, or was."""
    from django.utils import timezone

    from providers import catalog, stock
    from providers.models import Offer

    def news() -> None:
        stock.renew()
        some = Offer.objects.filter(provider="vastai", pk__lt=number // 50)
        some.update(changed_at=timezone.now())
        catalog.changed("vastai", timezone.now())

    def news_before() -> None:
        news()
        stock.renew()

    for name in ("everything", "cheapest per GPU", "all filters"):
        ask(f"{name}, the stock just made anew", client.get, QUESTIONS[name], news_before)
    stock.keep()
    for name in ("everything", "cheapest per GPU", "all filters"):
        ask(f"{name}, while it is made", client.get, QUESTIONS[name], news)
    costs = []
    for _ in range(TIMES // 4):
        news()
        used = time.process_time()
        stock.renew()
        costs.append((time.process_time() - used) * 1000)
    say(f"  {'in the background after each news':<36}{'':>27}{median(costs):>9.1f}")


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else OFFERS
    if "BENCH_INSIDE" in os.environ:
        measure(number)
        return
    with tempfile.TemporaryDirectory() as folder:
        surroundings = os.environ | {
            "BENCH_INSIDE": "1",
            "DJANGO_SETTINGS_MODULE": "gpubroker.settings",
            "GPUBROKER_DATA_DIR": str(Path(folder)),
        }
        databases = [{}]
        if url := os.environ.get("TEST_DATABASE_URL"):
            databases.append({"DATABASE_URL": url})
        for database in databases:
            command = [sys.executable, "-m", "bench.offers", str(number)]
            subprocess.run(command, env=surroundings | database, check=True)


if __name__ == "__main__":
    main()
