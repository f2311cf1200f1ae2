"""``hugang cosign``: have both nodes cosign each other's checkpoints now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import folder_option, hand_over

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["command"]


@click.command("cosign", short_help="Have both nodes cosign each other's checkpoints now.")
@folder_option
def command(folder: Path) -> None:
    """Carry each node's newest checkpoint to the other, which cosigns it, and back.

    Settlement does this before it nets a window and after it is decided. Whoever carries checkpoints is trusted with
    nothing; so that nobody disturbs another's exchange, it takes the settlement operator's key.
    """
    import asyncio

    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS
    from ledger import checkpoint

    notes = asyncio.run(_carried(folder))
    hand_over(notes)
    terminal = Terminal()
    for ledger in LEDGERS:
        point = checkpoint.decode_checkpoint(checkpoint.decode_note(notes[ledger]).text)
        terminal.say(f"{point.origin}: {point.size:,} leaves, root {point.root.hex()}")


async def _carried(folder: Path) -> Mapping[str, bytes]:
    """Run one exchange over both nodes."""
    from gateway.cli.connect import hash_of, url_of
    from gateway.client.signing import Signer
    from gateway.config import LEDGERS, Limits, load_key, network_folder
    from gateway.serve import operator_http
    from gateway.transport import HttpPort
    from ledger.runtime import SystemRuntime
    from settlement.cosigning import exchange

    urls = {ledger: url_of(folder, ledger.lower()) for ledger in LEDGERS}
    key = load_key(network_folder(folder).key("settlement"))
    async with operator_http(Limits()) as client:
        return await exchange(
            {
                ledger: HttpPort(
                    ledger,
                    urls[ledger],
                    client=client,
                    signer=Signer(urls[ledger], key, hash_of(folder, ledger.lower())),
                    runtime=SystemRuntime(),
                )
                for ledger in LEDGERS
            }
        )
