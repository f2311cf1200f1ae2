"""Making a node's projection, or bringing it up to date, from its stored journal: beside the node or without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.config import load_node_config
from gateway.projection.database import Projection, Watermark
from gateway.projection.rows import money_of
from ledger import genesis as genesis_documents
from ledger.runtime import Runtime
from ledger.store import open_store_reader
from ledger.writer import open_machine
from settlement.interpreter import Settlement

__all__ = ["Projected", "project"]


@dataclass(frozen=True, slots=True)
class Projected:
    """What was done: the ledger, the tables that had to be made anew, and how far each one is."""

    ledger: str
    made: tuple[str, ...]
    watermarks: dict[str, Watermark]


def project(
    folder: Path,
    runtime: Runtime,
    *,
    with_transfers: bool,
    anew: bool,
    progress: Callable[[int, int], None] = lambda _height, _count: None,
) -> Projected:
    """Replay the journal of the node that lies in a folder, every hash checked, and bring its tables up to its end.

    Args:
        folder: of the node.
        runtime: randomness for the replay.
        with_transfers: whether to begin to keep the table of transfers.
        anew: whether to forget all tables first.
        progress: told each height that has been replayed, and how many blocks there are.

    Raises:
        NotFound, MalformedInput: there is no journal, or settings are not of the form.
        IntegrityFailure: the journal contradicts itself.
        Unavailable: the database does not do.
    """
    settings = load_node_config(folder)
    store = open_store_reader(settings.database, runtime=runtime, folder=folder)
    projection = Projection.open(settings.database, folder)
    try:
        genesis, count = genesis_documents.decode(store.genesis()), store.last_height()
        machine = open_machine(
            store,
            lambda: Settlement(genesis),
            runtime.random_bytes(16),
            progress=lambda height: progress(height, count),
        )
        if anew:
            projection.forget()
        made = projection.check(store)
        projection.update(store, money_of(machine), with_transfers=with_transfers)
        return Projected(genesis.ledger, tuple(made), projection.watermarks())
    finally:
        projection.close()
        store.close()
