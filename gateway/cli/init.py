"""``hugang init``: lay a network out in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import folder_option, ports_option
from gateway.config import Ports

__all__ = ["command"]


@click.command("init", short_help="Lay a network out in a folder.")
@folder_option
@click.option("--network", help="Name of the network, lower case; a random one by default.")
@ports_option
@click.option("--cycle-interval", "cycle_interval_s", type=click.IntRange(0, 86_400), default=0, show_default=True,
              help="Settle by itself this often, in seconds; 0 only when asked.")  # fmt: skip
@click.option("--test-clock", is_flag=True, help="Let the ledgers' time be moved on by `hugang clock`, for tests.")
def command(folder: Path, network: str | None, ports: Ports | None, cycle_interval_s: int, *, test_clock: bool) -> None:
    """Lay a network out: keys, both genesis documents and the settings of three processes.

    Private keys are readable by their owner alone. A folder that holds a network already is left as it is.
    """
    from gateway.cli.terminal import Terminal
    from gateway.config import LEDGERS, init_network, load_genesis
    from ledger.genesis import genesis_hash
    from ledger.runtime import SystemRuntime

    layout = init_network(
        folder, SystemRuntime(), network, ports=ports, cycle_interval_s=cycle_interval_s, test_clock=test_clock
    )
    terminal = Terminal()
    terminal.say(f"network {load_genesis(layout.sh / 'genesis.json').network} in {folder}")
    for ledger in LEDGERS:
        document = load_genesis(layout.node(ledger) / "genesis.json")
        terminal.say(f"genesis {ledger} {genesis_hash(document).hex()}")
