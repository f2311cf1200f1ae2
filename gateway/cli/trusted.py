"""What a proof is checked by, and what kind of proof a file is.

The genesis is that of the files that are named, an export among them, or else the folder's own. One that was taken from
an export is only as good as the export: its hash is shown, so that it can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.errors import MalformedInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.cli.terminal import Terminal
    from ledger.genesis import Genesis

__all__ = ["Trusted", "genesis_option", "kind_of", "trusted_genesis"]

Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Trusted:
    """A genesis to check by, and the export that it was taken from, if it was."""

    genesis: Genesis
    export: Path | None = None

    def show(self, terminal: Terminal) -> None:
        """Print the hash of a genesis that came with an export."""
        from ledger.genesis import genesis_hash

        if self.export is not None:
            terminal.say(
                f"genesis {self.genesis.ledger} {genesis_hash(self.genesis).hex()} "
                f"(taken from {self.export}: compare it with one from elsewhere)"
            )


def genesis_option(command: Command) -> Command:
    """Add ``--genesis``: the documents to trust instead of the folder's."""
    return click.option(
        "--genesis",
        "genesis_files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A genesis to trust, once for each ledger: a file, or an export that holds it; by default both in the "
        "network's folder.",
    )(command)


def trusted_genesis(files: Sequence[Path], folder: Path) -> list[Trusted]:
    """Read the genesis documents to trust: those of the files, or without any both of a network's folder.

    Raises:
        MalformedInput: ``GENESIS_MISSING``, none was named and the folder has none; or a file holds none.
        IntegrityFailure: an export is damaged at its beginning.
    """
    from gateway.config import LEDGERS, load_genesis, network_folder

    if files:
        return [_read(path) for path in files]
    own = [network_folder(folder).node(ledger) / "genesis.json" for ledger in LEDGERS]
    if not any(path.exists() for path in own):
        raise MalformedInput(
            "GENESIS_MISSING",
            "No genesis lies there to check by; give --genesis FILE: what ADDRESS/v1/genesis answers, or an export.",
            folder=str(folder.resolve()),
        )
    return [Trusted(load_genesis(path)) for path in own]


def kind_of(data: bytes) -> str:
    """Tell ``receipt``, ``balance`` and ``certificate`` by how a file begins; anything else is an empty text."""
    from ledger import receipts, sealed
    from settlement import anchors, certificate

    kinds = {
        receipts.FORMAT: "receipt",
        sealed.FORMAT: "balance",
        certificate.FORMAT: "certificate",
        anchors.FORMAT: "certificate",
    }
    return next((kind for name, kind in kinds.items() if data[2 : 2 + len(name)] == name.encode("ascii")), "")


def _read(path: Path) -> Trusted:
    """Read a genesis from a file of its own, or out of an export."""
    from gateway.config import load_genesis
    from ledger.exports import MAGIC, ExportFile
    from ledger.genesis import decode

    with path.open("rb") as file:
        is_export = file.read(len(MAGIC)) == MAGIC
    if not is_export:
        return Trusted(load_genesis(path))
    with ExportFile(path) as export:
        return Trusted(decode(export.genesis()), path)
