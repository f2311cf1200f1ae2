"""``hugang demo``: the whole of it in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import DEFAULT_FOLDER, folder_option

if TYPE_CHECKING:
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import Terminal
    from gateway.demo.report import Report

__all__ = ["command"]

SHORT_PAYMENT_COUNT = 2_000
SHORT_PARTICIPANT_COUNT = 40
PAYMENTS_MAX = 150_000


@click.command("demo", short_help="Run a whole day: payments, settlement, verification.")
@click.option("--short", is_flag=True, help="2,000 payments of 40 participants instead of a whole day.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Another day; the default is a fixed one.")
@click.option("--payments", type=click.IntRange(100, PAYMENTS_MAX), help="So many wholesale payments.")
@folder_option
def command(folder: Path, *, short: bool, seed: int | None, payments: int | None) -> ExitCode:
    """Run both nodes and the settlement operator through a day of payments, settle it, verify it.

    Every command is printed before it runs. What must come of each is worked out beside the nodes; a mismatch makes
    the demonstration end with code 5. The folder is emptied first if an earlier demonstration left it; report.json is
    written into it at the end.
    """
    from gateway.cli.exits import ExitCode
    from gateway.cli.terminal import ReaderGone, Terminal
    from gateway.client import ClientError
    from gateway.demo.script import Demonstration, clear_folder
    from ledger.errors import IntegrityFailure, LedgerError
    from ledger.runtime import SystemRuntime
    from settlement.workload import PARTICIPANT_COUNT, PAYMENT_COUNT, SEED, wholesale_day

    terminal = Terminal()
    clear_folder(folder)
    day = wholesale_day(
        SEED if seed is None else seed,
        payment_count=payments or (SHORT_PAYMENT_COUNT if short else PAYMENT_COUNT),
        participant_count=SHORT_PARTICIPANT_COUNT if short else PARTICIPANT_COUNT,
    )
    terminal.say("Hugang: a simulated day of e-CNY payments between Shanghai and Hong Kong. No real money is involved.")
    play = Demonstration(folder, day, SystemRuntime(), terminal)
    failure: str | None = "interrupted"
    try:
        play.run()
        failure = None
    except (LedgerError, IntegrityFailure, ClientError) as error:
        failure = str(error)
        raise
    except KeyboardInterrupt:
        _show_interrupted(terminal, folder)
        return ExitCode.INTERRUPTED
    except ReaderGone:
        failure = "nobody read the output any more"
        raise
    finally:
        play.report.save(folder, failure=failure)
    _show_end(terminal, play.report, folder)
    return ExitCode.INTEGRITY if play.report.mismatches else ExitCode.OK


def _show_interrupted(terminal: Terminal, folder: Path) -> None:
    """Say what an interrupted demonstration leaves behind."""
    from gateway.cli.terminal import invocation
    from gateway.supervisor import running

    left = "some processes still run" if running(folder) else "nothing runs"
    terminal.fail(
        f"interrupted; {left}; {folder} holds an unfinished day: `{invocation('demo', folder)}` plays it anew"
    )


def _show_end(terminal: Terminal, report: Report, folder: Path) -> None:
    """Print times, the verdict, and what to do next."""
    from gateway.cli.connect import url_of
    from gateway.cli.terminal import program_name
    from gateway.demo.report import REPORT_FILE

    spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items())
    terminal.say(f"\n{sum(report.seconds.values()):.1f} s: {spent}")
    terminal.say(
        f"payments stored {report.stored:,}, refused {report.refused:,}, replayed {report.replayed:,}; "
        f"report in {folder / REPORT_FILE}"
    )
    for mismatch in report.mismatches:
        terminal.fail(f"MISMATCH {mismatch}")
    if report.mismatches:
        return
    terminal.say(f"All {report.expectations} expectations hold.", style="bold green")
    where = "" if str(folder) == DEFAULT_FOLDER else f" --dir {folder}"
    program = program_name()
    terminal.say("\nNext:")
    rows = (
        (
            "make up" if not where else f"{program} up --detach{where}",
            "start the same network again, and leave it running",
        ),
        (f"{program} pay lin tea-house 12.50{where}", "a payment of your own"),
        (f"{program} settle{where}", "settle the open window"),
        (f"{url_of(folder, 'sh')}/docs", "the API documentation, while it runs"),
        ("make down" if not where else f"{program} down{where}", "stop it; `make clean` removes all data"),
    )
    terminal.table("", ("", ""), [(f"  {line}", meaning) for line, meaning in rows])
