"""An export as SQL tables in a file of its own, for whoever audits and has no node.

One pass: each block is written once it has been verified, so nothing is in the tables that the verifier did not accept,
and no more than a few blocks are in memory. The file gets its name when the journal has been verified to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway.projection import tables
from gateway.projection.database import Watermark, insert_rows, mark, new_file_engine
from gateway.projection.rows import account_rows, balance_rows, message_rows, money_of, transfer_rows
from ledger import genesis as genesis_documents
from ledger.audit import verify
from ledger.errors import Unavailable
from ledger.exports import ExportFile
from ledger.journal import EncodedBlock, decode_header
from ledger.machine import Machine
from ledger.runtime import Runtime
from settlement.interpreter import Settlement

__all__ = ["ProjectedExport", "project_export"]

_MAKERS = {"messages": message_rows, "transfers": transfer_rows}


@dataclass(frozen=True, slots=True)
class ProjectedExport:
    """What was written: the ledger, the hash of its genesis, the file, and how far each table is."""

    ledger: str
    genesis_hash: bytes
    file: Path
    watermarks: dict[str, Watermark]


def project_export(
    export: Path,
    file: Path,
    runtime: Runtime,
    *,
    progress: Callable[[int], None] = lambda _height: None,
) -> ProjectedExport:
    """Verify one journal from its own genesis, as ``hugang verify`` does, and write all its tables into a SQLite file.

    Args:
        export: the journal's file.
        file: is made, or replaced; until everything has been verified it has another name.
        runtime: randomness for the replay.
        progress: told each height that has been verified and written.

    Raises:
        IntegrityFailure: the journal does not stand; nothing is left of the file.
        Unavailable: ``PROJECTION_FAILED``, the file cannot be written.
    """
    draft = file.with_name(f".{file.name}.draft")
    draft.unlink(missing_ok=True)
    engine = new_file_engine(draft)
    try:
        with ExportFile(export) as source, engine.begin() as connection:
            tables.METADATA.create_all(connection)
            result = _Writing(source, connection, runtime, progress).run(file)
        draft.replace(file)
    except DBAPIError as error:
        sentence = f"The projection cannot be used: {error.orig}"
        raise Unavailable("PROJECTION_FAILED", sentence, retry_after_s=1) from error
    finally:
        engine.dispose()
        draft.unlink(missing_ok=True)
    return result


class _Interpreter(Settlement):
    """The settlement interpreter, which also tells whose it is: rows name parties, and those the machine knows."""

    machine: Machine

    def begin(self, machine: Machine) -> None:
        """Open the first accounts, and remember the machine."""
        self.machine = machine
        super().begin(machine)


class _Writing:
    """One journal on its way into the tables; gives the verifier its blocks, and keeps those that wait for its word."""

    def __init__(
        self, export: ExportFile, connection: Connection, runtime: Runtime, progress: Callable[[int], None]
    ) -> None:
        self._export = export
        self._connection = connection
        self._runtime = runtime
        self._progress = progress
        self._waiting: deque[EncodedBlock] = deque()
        self._counts = dict.fromkeys(tables.PROJECTED, 0)
        self._interpreter: _Interpreter

    def genesis(self) -> bytes:
        """Give the genesis document's bytes."""
        return self._export.genesis()

    def header(self, height: int) -> bytes:
        """Give the header of a block that was given."""
        return self._export.header(height)

    def body_part(self, height: int, part: int) -> bytes:
        """Give a part of the body of a block that was given."""
        return self._export.body_part(height, part)

    def height_of(self, position: int) -> int:
        """Give the height of the block with a position."""
        return self._export.height_of(position)

    def blocks(self, from_height: int = 1) -> Iterator[EncodedBlock]:
        """Give the blocks, and keep each until it has been verified."""
        for encoded in self._export.blocks(from_height):
            self._waiting.append(encoded)
            yield encoded

    def run(self, file: Path) -> ProjectedExport:
        """Verify everything, writing what follows from blocks on the way and the accounts at the end."""
        report = verify(
            self,
            interpreter_factory=self._begin,
            progress=self._take_in,
            runtime=self._runtime,
        )
        money = money_of(report.machine)
        numbers = np.arange(1, len(money.accounts) + 1)
        for name, make in (("accounts", account_rows), ("balances", balance_rows)):
            self._counts[name] = insert_rows(self._connection, tables.PROJECTED[name], make(money, numbers))
        marks = {name: Watermark(money.height, count) for name, count in self._counts.items()}
        for name, reached in marks.items():
            mark(
                self._connection,
                name,
                height=reached.height,
                position_count=money.position_count,
                block_hash=money.block_hash,
                row_count=reached.row_count,
            )
        return ProjectedExport(report.ledger, report.genesis_hash, file, marks)

    def _begin(self) -> _Interpreter:
        self._interpreter = _Interpreter(genesis_documents.decode(self.genesis()))
        return self._interpreter

    def _take_in(self, height: int) -> None:
        """Write the rows of the block that has just been verified."""
        block = self._waiting.popleft()
        header, directory = decode_header(block.header), self._interpreter.machine.directory
        for name, make in _MAKERS.items():
            self._counts[name] += insert_rows(self._connection, tables.PROJECTED[name], make(block, header, directory))
        self._progress(height)
