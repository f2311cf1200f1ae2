"""``hugang settle``: settle the open window, and follow it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import folder_option, hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.client import Client

__all__ = ["STAGES", "command", "show"]

POLL_TIME_S = 0.05
WAIT_TIME_S = 0.25
WAIT_TIME_S_MAX = 120
"""How long to wait for a cycle that is under way."""
STAGES = {
    "close": "both nodes close the window and list its payments",
    "accept": "the receiving side accepts or rejects each payment",
    "reject": "the paying side hears of it",
    "cosign": "each node cosigns the other's checkpoint, before netting and after the decision",
    "net": "netting, liquidity check, proposal",
    "vote": "the first voter reserves the net positions and votes",
    "decide": "the last voter votes and decides: finality",
    "apply": "the first voter applies the decision",
}
"""What happens in each stage of a cycle, in order."""
LARGEST_COUNT = 5
"""Net positions shown on each side."""


@click.command("settle", short_help="Settle the open window and follow it.")
@folder_option
@json_option
def command(folder: Path, *, as_json: bool) -> ExitCode:
    """Ask the settlement operator to settle the open window, follow it, and show what it came to."""
    from gateway.cli.connect import as_settlement
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal

    terminal = Terminal()
    with as_settlement(folder) as client:
        cycle = _follow(terminal, client, _begin(terminal, client))
        positions = client.cycle_positions(cycle["window"]) if cycle["report"] is not None else []
    result = _result(cycle, positions)
    hand_over(result)
    if as_json:
        terminal.json(result)
    else:
        show(terminal, result)
    return ExitCode.OK if cycle["state"] == "SETTLED" else ExitCode.REFUSED


def _begin(terminal: Terminal, client: Client) -> int:
    """Begin a cycle, after the one that is under way; gives the window.

    Raises:
        ProblemError: the operator says no, or the one before takes too long.
    """
    from gateway.client import ProblemError

    pause, waited_s = threading.Event(), 0.0
    while True:
        try:
            return int(client.start_cycle()["window"])
        except ProblemError as error:
            if error.code != "CYCLE_RUNNING" or waited_s > WAIT_TIME_S_MAX:
                raise
        if not waited_s:
            terminal.note("a cycle is under way, or the operator still looks for an unfinished one; waiting")
        pause.wait(WAIT_TIME_S)
        waited_s += WAIT_TIME_S


def _follow(terminal: Terminal, client: Client, window: int) -> dict[str, Any]:
    """Ask again and again until the cycle has ended, and show each stage as it begins."""
    pause = threading.Event()
    order = list(STAGES)
    reached = 0
    with terminal.progress(f"window {window}", len(STAGES)) as meter:
        while True:
            cycle = client.cycle(window)
            ended = cycle["state"] != "RUNNING"
            place = len(order) if ended else order.index(cycle["stage"]) if cycle["stage"] in order else reached
            if place > reached:
                meter.advance(place - reached)
                reached = place
            if ended:
                return cycle
            pause.wait(POLL_TIME_S)


def _result(cycle: dict[str, Any], positions: list[dict[str, str]]) -> dict[str, Any]:
    """Put together what a program wants to know."""
    report = cycle["report"] or {}
    sums: dict[str, int] = {}
    for position in positions:
        sums[position["asset"]] = sums.get(position["asset"], 0) + int(position["amount"])
    return {
        "window": cycle["window"],
        "state": cycle["state"],
        "problem": cycle["problem"],
        **{
            name: report.get(name)
            for name in ("attempt", "accepted", "settled", "rejected", "cancelled", "carried_out")
        },
        "assets": report.get("assets", {}),
        "net_sums": {asset: str(total) for asset, total in sums.items()},
        "stages_us": cycle["stages_us"],
        "positions": positions,
    }


def show(terminal: Terminal, result: dict[str, Any]) -> None:
    """Print what settling a window came to."""
    if result["state"] != "SETTLED":
        terminal.say(f"window {result['window']} {result['state']}: {result['problem']}", style="yellow")
        return
    stages = [
        (stage, f"{spent_us / 1000:,.1f} ms", STAGES.get(stage, "")) for stage, spent_us in result["stages_us"].items()
    ]
    terminal.table("", ("stage", "time", ""), stages, right=(1,))
    _show_netting(terminal, result)
    sums = ", ".join(f"{asset} {total}" for asset, total in result["net_sums"].items())
    seconds = sum(result["stages_us"].values()) / 1e6
    counts = (
        f"{_count(result['settled'])}, rejected {result['rejected']:,}, carried out {result['carried_out']:,}"
        if any(result[name] for name in ("settled", "rejected", "cancelled", "carried_out"))
        else "no payments"
    )
    net = f"; sum of net positions: {sums}" if sums else ""
    terminal.say(f"window {result['window']} SETTLED on both ledgers in {seconds:.2f} s: {counts}{net}")


def _show_netting(terminal: Terminal, result: dict[str, Any]) -> None:
    """Print what was netted, if anything was, and who pays and receives most of it."""
    from gateway.cli.terminal import money

    totals = [
        (asset, money(int(total["gross"])), money(int(total["net"])), f"{total['saving_bp'] / 100:.2f} %")
        for asset, total in result["assets"].items()
    ]
    if totals:
        terminal.table("", ("asset", "gross", "net", "liquidity saved"), totals, right=(1, 2, 3))
    largest = sorted(result["positions"], key=lambda position: int(position["amount"]))
    shown = largest if len(largest) <= 2 * LARGEST_COUNT else largest[:LARGEST_COUNT] + largest[-LARGEST_COUNT:]
    rows = [
        (
            position["participant"],
            position["ledger"],
            "pays" if int(position["amount"]) < 0 else "receives",
            money(abs(int(position["amount"])), position["asset"]),
        )
        for position in shown
    ]
    title = f"the largest of {len(largest)} net positions" if len(shown) < len(largest) else "net positions"
    if rows:
        terminal.table(title, ("participant", "ledger", "", ""), rows, right=(3,))


def _count(payments: int) -> str:
    return "1 payment" if payments == 1 else f"{payments:,} payments"
