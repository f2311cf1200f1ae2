"""``hugang clock``: the test clock of a network that was made with one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from gateway.cli.options import LEDGER, folder_option, hand_over, json_option

__all__ = ["command"]

_SPAN = re.compile(r"([1-9][0-9]{0,7})([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Span(click.ParamType):  # type: ignore[type-arg] # generic only from click 8.2 on
    """A time span such as ``90s``, ``15m``, ``8h`` or ``1d``, in seconds."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _SPAN.fullmatch(str(value))
        if match is None:
            self.fail(f"{value} is no time span such as 90s, 15m, 8h or 1d", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.command("clock", short_help="Show or move the test clock.")
@click.option("--advance", "advance_s", type=_Span(), help="Move it on, such as 90s, 15m, 8h or 1d.")
@click.option("--ledger", type=LEDGER, help="Of one ledger only; without it of both.")
@folder_option
@json_option
def command(advance_s: int | None, ledger: str | None, folder: Path, *, as_json: bool) -> None:
    """Show by how much the ledgers' clocks have been moved on; with --advance let their registrars move them first.

    Only a network that was made by `hugang init --test-clock` has clocks that can be moved, and never back.
    """
    from gateway.cli.connect import as_registrar
    from gateway.cli.terminal import Terminal, thousands

    found = {}
    for name in ("sh", "hk") if ledger is None else (ledger.lower(),):
        with as_registrar(folder, name) as registrar:
            if advance_s is not None:
                registrar.advance_clock(advance_s)
            found[name.upper()] = registrar.health()["clock_offset_s"]
    hand_over(found)
    terminal = Terminal()
    if as_json:
        terminal.json(found)
        return
    for name, offset_s in found.items():
        terminal.say(f"{name}  {thousands(offset_s)} seconds ahead of real time")
