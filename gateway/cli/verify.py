"""``hugang verify``: check exports without any node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import hand_over, json_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.verification import Verification
    from settlement.reconcile import Finding, Older

__all__ = ["command"]


class _Hash(click.ParamType):  # type: ignore[type-arg] # generic only from click 8.2 on
    """A SHA-256 in hex."""

    name = "SHA256"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        text = str(value)
        if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
            self.fail("not 64 lower-case hexadecimal digits", param, ctx)
        return bytes.fromhex(text)


@click.command("verify", short_help="Check exports without any node.")
@click.argument("target", type=click.Path(exists=True, path_type=Path))
@click.option("--genesis-hash", "hashes", type=_Hash(), multiple=True,
              help="Hash of a genesis that you trust; give it once for each ledger.")  # fmt: skip
@click.option("--checkpoint", "checkpoints", multiple=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A checkpoint that you have kept: the journal must reach and contain it.")  # fmt: skip
@json_option
def command(target: Path, hashes: tuple[bytes, ...], checkpoints: tuple[Path, ...], *, as_json: bool) -> ExitCode:
    """Replay the exports in TARGET and check everything: hashes, signatures, records, both ledgers together.

    TARGET is a folder that `hugang export` wrote, or one journal. Without --genesis-hash the genesis in the export is
    believed; compare the hash that is printed. An export proves what is in it; that nothing was cut off its end is
    proved by a checkpoint kept elsewhere, such as the answer of ADDRESS/v1/checkpoint. A refused export ends with code
    5 and names the first bad record. Exports of different moments end with code 7: which one is older, how far each has
    come, and that what both have agrees.

    One journal, or the folder of one, is verified alone: the verdict says so, and `not_checked` of --json says what
    takes both ledgers. A folder for both that lacks one of them ends with code 7. Refused records are counted, not
    payments: one payment that converts leaves several.
    """
    from gateway.cli.exits import ExitCode
    from gateway.cli.following import following_exports
    from gateway.cli.terminal import Terminal
    from gateway.verification import find_exports, is_for_both, verify_exports
    from ledger.runtime import SystemRuntime

    terminal = Terminal()
    exports = find_exports(target)
    with following_exports(terminal, exports) as progress:
        result = verify_exports(
            exports,
            is_for_both=is_for_both(target),
            trusted_hashes=frozenset(hashes),
            checkpoints=[path.read_bytes() for path in checkpoints],
            runtime=SystemRuntime(),
            progress=progress,
        )
    hand_over(result)
    if as_json:
        terminal.json(result.to_builtins())
    else:
        _show(terminal, result)
    codes = {"verified": ExitCode.OK, "incomplete": ExitCode.INCOMPLETE, "refused": ExitCode.INTEGRITY}
    return codes[result.verdict]


def _show(terminal: Terminal, result: Verification) -> None:
    """Print what was found, and last the verdict."""
    rows = [
        (
            ledger,
            f"{report.block_count:,}",
            f"{report.message_count:,}",
            f"{report.record_count:,}",
            f"{report.refused_count:,}",
            f"{report.stages_ns['total'] / 1e9:.2f} s",
        )
        for ledger, report in result.reports.items()
    ]
    if rows:
        columns = ("ledger", "blocks", "messages", "records", "refused records", "replayed in")
        terminal.table("", columns, rows, right=(1, 2, 3, 4, 5))
        for ledger, report in result.reports.items():
            known = report.genesis_hash in result.trusted_hashes
            source = "the one you gave" if known else "taken from the export: compare it with one from elsewhere"
            terminal.say(f"genesis {ledger} {report.genesis_hash.hex()} ({source})")
    if result.findings:
        found = [(item.outcome.value, item.invariant, item.subject, _sentence(item)) for item in result.findings]
        terminal.table("both ledgers together (docs/architecture.md#invariants)", ("", "", "", ""), found)
    if result.windows:
        count = sum(window.settled for window in result.windows)
        terminal.say(f"{len(result.windows)} windows with {count:,} payments proved by their certificates")
    styles = {"verified": "bold green", "incomplete": "bold yellow", "refused": "bold red"}
    terminal.say(_verdict(result), style=styles[result.verdict])


def _verdict(result: Verification) -> str:
    """Write the verdict for people; it is never more than what was checked."""
    failure = result.failure
    if failure is not None:
        block = "" if failure.block is None else f" (block {failure.block})"
        place = "" if failure.position is None else f", position {failure.position}{block}"
        return f"REFUSED {failure.subject}: {failure.code}{place}: {failure.sentence}"
    if result.older is not None:
        return _incomplete(result.older)
    if result.alone is None:
        return "VERIFIED"
    other = "HK" if result.alone == "SH" else "SH"
    limits = f"nothing was compared with {other} (I11, I12, I14), and no window was proved by its certificate"
    if result.missing is None:
        return f"VERIFIED, {result.alone} alone: {limits}"
    return (
        f"INCOMPLETE: the export of {result.missing} is missing. That of {result.alone} holds by itself; {limits}. "
        f"Export both into one folder; to verify one ledger on purpose, name its own folder or file."
    )


def _sentence(finding: Finding) -> str:
    """Write a finding for people, its amounts with their decimals."""
    from gateway.cli.terminal import money

    amounts = ", ".join(f"{name} {money(amount, finding.subject)}" for name, amount in finding.amounts.items())
    return f"{finding.sentence}: {amounts}" if amounts else finding.sentence


def _incomplete(older: Older) -> str:
    """Say which export is older, how far each has come, what proves it, and what to do."""
    reached = {
        ledger: f"window {reach.window}, {reach.state}" + (f" in attempt {reach.attempt}" if reach.attempt else "")
        if reach.window
        else "before its first window"
        for ledger, reach in older.reached.items()
    }
    proof = (
        f"{older.newer}'s export holds what {older.ledger}'s node has signed since"
        if older.is_signed
        else f"{older.ledger}'s export lacks a decision that {older.newer} has gone on from"
    )
    return (
        f"INCOMPLETE: the export of {older.ledger} is older ({reached[older.ledger]}) than that of {older.newer} "
        f"({reached[older.newer]}): {proof}. What both have agrees. Export both anew, while no window is being settled."
    )
