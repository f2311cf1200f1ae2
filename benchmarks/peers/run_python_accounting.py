"""Post a file of transfers with python-accounting on PostgreSQL, and say how fast it went.

Each transfer is a ``JournalEntry`` with one ``LineItem``, posted as the library's page shows it. It documents no way to
post many at once. One process posts: each ledger row hashes the row before it, which must have been committed.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from python_accounting.database.session import get_session
from python_accounting.models import Account, Base, Currency, Entity, Ledger, LineItem
from python_accounting.transactions import JournalEntry
from sqlalchemy import create_engine, func, select


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Open, post, check."""
    rows = json.loads(Path(options["rows"]).read_text(encoding="utf-8"))[: options["count"]]
    url = f"postgresql+psycopg2://{options['user']}@/{options['database']}?host={options['socket']}"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with get_session(engine) as session:
        entity = Entity(name="Bench")
        session.add(entity)
        session.commit()
        currency = Currency(name="Renminbi", code="CNY", entity_id=entity.id)
        session.add(currency)
        session.commit()
        kind = Account.AccountType.RECEIVABLE
        made = [
            Account(name=f"a{number}", account_type=kind, currency_id=currency.id, entity_id=entity.id)
            for number in range(options["accounts"])
        ]
        session.add_all(made)
        session.commit()
        numbers = [account.id for account in made]
        entity_id = entity.id
        started_s = time.perf_counter()
        for debit, credit, amount in rows:
            post(session, entity_id, numbers[debit], numbers[credit], amount)
        spent_s = time.perf_counter() - started_s
        if session.execute(select(func.count()).select_from(Ledger)).scalar_one() != 2 * len(rows):
            sys.exit("not every transfer arrived")
    return {"transfers_per_s": len(rows) / spent_s}


def post(session: Any, entity_id: int, debit: int, credit: int, amount: int) -> None:
    """Post one transfer and commit it."""
    entry = JournalEntry(
        narration="transfer",
        transaction_date=datetime.now() - timedelta(seconds=1),  # noqa: DTZ005 - the library knows no time zones
        account_id=credit,
        entity_id=entity_id,
    )
    session.add(entry)
    session.flush()
    line = LineItem(narration="transfer", account_id=debit, amount=amount, entity_id=entity_id)
    session.add(line)
    session.flush()
    entry.line_items.add(line)
    session.add(entry)
    entry.post(session)


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
