"""Post a file of transfers to a running TigerBeetle server through its own Python client, and say how fast it went.

*documented* gives the client ``Transfer`` objects, in batches of 8,188 with eight under way. *single* awaits one
transfer at a time from many tasks; the client may put them together as it likes. *packed* hands the client's own
submission records that are packed already: the client has no public way for that, so this goes through ``_submit``
with an element type as large as the batch, and saves what making and reading Python objects costs.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import tigerbeetle as tb
from tigerbeetle import bindings

BATCH = 8_188
"""Records of one request: the server takes one more, but pairs and halves want an even number."""
FUNDS = 10**11
PENDING, POST, LINKED = 1, 2, 16
RECORD = np.dtype(
    [
        ("id_lo", "<u8"),
        ("id_hi", "<u8"),
        ("debit", "<u8", 2),
        ("credit", "<u8", 2),
        ("amount", "<u8", 2),
        ("related_lo", "<u8"),
        ("related_hi", "<u8"),
        ("user", "<u8", 3),
        ("user_32", "<u4"),
        ("timeout", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("timestamp", "<u8"),
    ]
)
RESULT_SIZE = 16
CREATED = int(tb.CreateTransferStatus.CREATED)

Create = Callable[[Any], Awaitable[None]]


def records(path: str, base: int) -> Any:
    """Read transfers and write them as the server's records; ids and accounts begin at ``base``, unused so far."""
    rows = np.load(path)
    found = np.zeros(len(rows), RECORD)
    found["id_lo"], found["id_hi"] = rows["id_lo"], rows["id_hi"] + np.uint64(base)
    for side in ("debit", "credit"):
        found[side][:, 0] = rows[side].astype(np.uint64) + np.uint64(base)
    found["amount"][:, 0] = rows["amount"]
    is_post = rows["flags"] & POST != 0
    found["related_lo"][is_post] = rows["related_lo"][is_post]
    found["related_hi"][is_post] = rows["related_hi"][is_post] + np.uint64(base)
    found["debit"][is_post] = found["credit"][is_post] = 0
    found["amount"][is_post] = 2**64 - 1  # the largest amount of all: post what is held
    found["ledger"], found["code"] = 1, 1
    for ours, theirs in ((PENDING, "PENDING"), (POST, "POST_PENDING_TRANSFER"), (LINKED, "LINKED")):
        found["flags"][rows["flags"] & ours != 0] |= int(tb.TransferFlags[theirs])
    return found


def packed_types(count: int) -> tuple[Any, Any]:
    """Give an element type that takes a whole batch as it stands, and one that gives its results as bytes."""

    class Records(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint8 * (RECORD.itemsize * count)),)

        @classmethod
        def from_param(cls, data: bytes) -> Any:
            return cls.from_buffer_copy(data)

    class Results(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint8 * (RESULT_SIZE * count)),)

        def to_python(self) -> bytes:
            return bytes(self)

    return Records, Results


def create_packed(client: Any) -> Create:
    """Submit records as they stand."""
    types = {}

    async def create(batch: Any) -> None:
        if len(batch) not in types:
            types[len(batch)] = packed_types(len(batch))
        submit = client._submit  # noqa: SLF001 - see the module
        operation = bindings.Operation.CREATE_TRANSFERS
        (results,) = await submit(operation, [batch.tobytes()], *types[len(batch)])
        statuses = np.frombuffer(results, "<u4").reshape(-1, 4)[:, 2]
        if np.any(statuses != CREATED):
            sys.exit(f"refused: {np.unique(statuses)}")

    return create


def objects(batch: Any) -> list[Any]:
    """Make the client's own objects of records."""
    zero = {"user_data_128": 0, "user_data_64": 0, "user_data_32": 0, "timestamp": 0, "timeout": 0, "pending_id": 0}
    names = ("id_hi", "id_lo", "debit", "credit", "amount", "ledger", "code", "flags")
    return [
        tb.Transfer(
            id=high << 64 | low,
            debit_account_id=debit[0],
            credit_account_id=credit[0],
            amount=amount[0],
            ledger=ledger,
            code=code,
            flags=flags,
            **zero,
        )
        for high, low, debit, credit, amount, ledger, code, flags in zip(
            *(batch[name].tolist() for name in names), strict=True
        )
    ]


def create_documented(client: Any) -> Create:
    """Submit objects, as the client's page shows it."""

    async def create(transfers: list[Any]) -> None:
        results = await client.create_transfers(transfers)
        if any(result.status != CREATED for result in results):
            sys.exit(f"refused: {results[0]}")

    return create


async def fund(client: Any, base: int, count: int) -> None:
    """Open accounts that may not be overdrawn, and one that may, and move money to each of the former."""
    zero = dict.fromkeys(("debits_pending", "debits_posted", "credits_pending", "credits_posted"), 0)
    zero |= {"user_data_128": 0, "user_data_64": 0, "user_data_32": 0, "timestamp": 0}
    limited = tb.AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
    source = tb.Account(id=base + count, ledger=1, code=1, flags=tb.AccountFlags(0), **zero)
    accounts = [source] + [tb.Account(id=base + n, ledger=1, code=1, flags=limited, **zero) for n in range(count)]
    money = np.zeros(count, RECORD)
    money["id_lo"], money["id_hi"] = np.arange(count), base + 2**63
    money["debit"][:, 0], money["credit"][:, 0] = base + count, base + np.arange(count)
    money["amount"][:, 0], money["ledger"], money["code"] = FUNDS, 1, 1
    for start in range(0, count + 1, BATCH):
        results = await client.create_accounts(accounts[start : start + BATCH])
        if any(result.status != tb.CreateAccountStatus.CREATED for result in results):
            sys.exit("an account was not made")
    for start in range(0, count, BATCH):
        await create_packed(client)(money[start : start + BATCH])


async def debited(client: Any, base: int, count: int) -> int:
    """Add up what has been debited."""
    found = []
    for start in range(0, count, BATCH):
        found += await client.lookup_accounts([base + n for n in range(start, min(start + BATCH, count))])
    return sum(int(account.debits_posted) for account in found)


async def timed(waiting: Iterator[Any], create: Create, task_count: int) -> float:
    """Let some tasks create what waits; gives the seconds until the last answer."""

    async def task() -> None:
        for batch in waiting:
            await create(batch)

    started_s = time.perf_counter()
    await asyncio.gather(*(task() for _ in range(task_count)))
    return time.perf_counter() - started_s


async def run(options: dict[str, Any]) -> dict[str, Any]:
    """Open, fund, post, check."""
    base = time.time_ns()
    found = records(options["rows"], base)[: options["count"]]
    async with tb.ClientAsync(cluster_id=0, replica_addresses=options["address"]) as client:
        await fund(client, base, options["accounts"])
        if options["mode"] == "packed":
            create = create_packed(client)
            waiting = [found[start : start + BATCH] for start in range(0, len(found), BATCH)]
        else:
            size = 1 if options["mode"] == "single" else BATCH
            create, made = create_documented(client), objects(found)
            waiting = [made[start : start + size] for start in range(0, len(made), size)]
        spent_s = await timed(iter(waiting), create, options["tasks"])
        is_post = found["flags"] & int(tb.TransferFlags.POST_PENDING_TRANSFER) != 0
        if await debited(client, base, options["accounts"]) != int(found["amount"][~is_post, 0].sum()):
            sys.exit("not every transfer arrived as it was sent")
    return {"transfers_per_s": len(found) / spent_s, "batch": BATCH, "tasks": options["tasks"]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))))
