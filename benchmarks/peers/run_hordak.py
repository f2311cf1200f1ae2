"""Post a file of transfers with django-hordak on PostgreSQL, and say how fast it went.

*single* calls ``Account.transfer_to``, the documented way, a commit each, from some processes at a time. *bulk* makes
what hordak's own benchmark command makes: ``bulk_create`` of transactions and legs, 25,000 of them to a commit.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections

BULK_COUNT = 25_000
CURRENCY = "CNY"


def configure(options: dict[str, Any]) -> None:
    """Set Django up on the database that was made for this run."""
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": options["database"], "USER": options["user"]}
    settings.configure(
        DATABASES={"default": database | {"HOST": options["socket"]}},
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "mptt",
            "djmoney",
            "hordak",
        ],
        DEFAULT_CURRENCY=CURRENCY,
        CURRENCIES=[CURRENCY],
        HORDAK_INTERNAL_CURRENCY=CURRENCY,
        HORDAK_CURRENCIES=[CURRENCY],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)


def accounts(count: int) -> list[Any]:
    """Open accounts of one currency."""
    from hordak.models import Account

    return [
        Account.objects.create(name=f"a{number}", code=f"{number:05}", type="AS", currencies=[CURRENCY])
        for number in range(count)
    ]


def post_single(payers: list[Any], rows: list[list[int]], process_count: int) -> float:
    """Post one by one from some processes; gives the seconds until the last has ended."""
    from djmoney.money import Money

    barrier = multiprocessing.Barrier(process_count + 1)

    def work(first: int) -> None:
        connections.close_all()
        connection.ensure_connection()
        barrier.wait()
        for debit, credit, amount in rows[first::process_count]:
            payers[credit].transfer_to(payers[debit], Money(amount, CURRENCY))
        connections.close_all()

    connections.close_all()
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(first,)) for first in range(process_count)]
    for child in children:
        child.start()
    barrier.wait()
    started_s = time.perf_counter()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        sys.exit("a posting process failed")
    return time.perf_counter() - started_s


def post_bulk(payers: list[Any], rows: list[list[int]]) -> float:
    """Post in bulk; making the objects is part of it, as for whoever has rows."""
    from django.db import transaction
    from djmoney.money import Money
    from hordak.models import Leg, Transaction

    started_s = time.perf_counter()
    for start in range(0, len(rows), BULK_COUNT):
        made, legs = [], []
        for debit, credit, amount in rows[start : start + BULK_COUNT]:
            made.append(Transaction())
            money = Money(amount, CURRENCY)
            legs.append(Leg(transaction=made[-1], account=payers[debit], debit=money))
            legs.append(Leg(transaction=made[-1], account=payers[credit], credit=money))
        with transaction.atomic():
            Transaction.objects.bulk_create(made)
            Leg.objects.bulk_create(legs)
    return time.perf_counter() - started_s


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Open, post, check."""
    configure(options)
    from hordak.models import Leg, Transaction

    rows = json.loads(Path(options["rows"]).read_text(encoding="utf-8"))[: options["count"]]
    payers = accounts(options["accounts"])
    is_single = options["mode"] == "single"
    spent_s = post_single(payers, rows, options["tasks"]) if is_single else post_bulk(payers, rows)
    if Transaction.objects.count() != len(rows) or Leg.objects.count() != 2 * len(rows):
        sys.exit("not every transfer arrived")
    return {"transfers_per_s": len(rows) / spent_s}


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
