"""``hugang snapshot``: make a snapshot of one node's ledger."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import hand_over

__all__ = ["command"]


@click.command("snapshot", short_help="Make a snapshot of one node's ledger, so that it starts quickly.")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--gently", is_flag=True, help="Give way to everything else on the machine.")
@click.option("--stop-with-parent", is_flag=True, hidden=True)
def command(folder: Path, *, gently: bool, stop_with_parent: bool) -> None:
    """Follow the journal of the node in DIR, such as demo/sh, from the newest snapshot on, and keep the next one.

    The node may run meanwhile, and starts this by itself from time to time. The newest two snapshots are kept.
    """
    import os

    from gateway.cli.process import end_with_parent
    from gateway.cli.terminal import Terminal
    from gateway.snapshots import make_snapshot
    from ledger.runtime import CrashPlan, SystemRuntime, keep_memory

    if stop_with_parent:
        end_with_parent()
    if gently:
        os.nice(19)
    keep_memory()
    made = make_snapshot(folder, SystemRuntime(crash_plan=CrashPlan.from_environment(os.environ)))
    terminal = Terminal()
    if made is None:
        terminal.say("nothing has been journaled since the newest snapshot")
        return
    terminal.say(f"block {made.height:,}, position {made.position:,}: {made.size:,} bytes")
    hand_over(made)
