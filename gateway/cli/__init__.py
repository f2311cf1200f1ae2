"""``hugang``: one command a file, each imported only when it is called.

Every command ends with a code of ``exits.ExitCode``; a failure prints one line to stderr, never a traceback, unless it
is our own mistake. What is asked for with arguments that nobody can mean, and files that cannot be used, are none.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

__all__ = ["COMMANDS", "cli", "main", "run"]

COMMANDS = (
    "demo",
    "init",
    "up",
    "down",
    "status",
    "node",
    "operator",
    "pay",
    "account",
    "cap",
    "rules",
    "clock",
    "payment",
    "window",
    "settle",
    "cosign",
    "resync",
    "trial-balance",
    "export",
    "snapshot",
    "verify",
    "certificate",
    "receipt",
    "balance-proof",
    "verify-receipt",
    "project",
    "doctor",
)
"""In the order in which ``--help`` lists them."""


class _Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gateway.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(importlib.metadata.version("hugang"), prog_name="hugang")
def cli() -> None:
    """Hugang (沪港): a prototype ledger for cross-border e-CNY payments.

    Everything is simulated: no real money is involved. Start with `hugang demo`.
    """


def main() -> None:
    """Run the command line and end the process with its exit code."""
    _refuse_foreign_packages()
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], recorder: list[object] | None = None, *, is_step: bool = False) -> int:
    """Run one command line in this process; gives its exit code.

    Args:
        arguments: as on a command line, without the program's name.
        recorder: gets what the command hands over (``options.hand_over``).
        is_step: whether it is a step of a longer command, which ends with it when it is interrupted.

    Raises:
        KeyboardInterrupt: a step was interrupted.
        ReaderGone: nobody reads a step's output any more.
    """
    import httpx

    from gateway.cli.exits import ExitCode, exit_code_of
    from gateway.cli.terminal import ReaderGone, Terminal
    from gateway.client.errors import ClientError, ServerUnreachable
    from ledger.errors import IntegrityFailure, LedgerError

    try:
        outcome = cli.main(list(arguments), prog_name="hugang", standalone_mode=False, obj=recorder)
    except click.ClickException as error:
        _show_usage(error)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt) as error:
        if is_step:
            raise KeyboardInterrupt from error
        Terminal().fail("interrupted")
        return ExitCode.INTERRUPTED
    except ReaderGone:
        if is_step:
            raise
        return ExitCode.INTERRUPTED
    except ServerUnreachable as error:
        Terminal().fail(" ".join((str(error), *getattr(error, "__notes__", ()))))
        return exit_code_of(error)
    except (LedgerError, IntegrityFailure, ClientError, httpx.TransportError) as error:
        Terminal().fail(str(error))
        return exit_code_of(error)
    except OSError as error:
        name = "" if error.filename is None else f" (file={error.filename})"
        Terminal().fail(f"FILE_UNUSABLE: {error.strerror or error}.{name}")
        return ExitCode.REFUSED
    return int(outcome or ExitCode.OK)


def _show_usage(error: click.ClickException) -> None:
    """Say in one line what is not understood; without any argument at all, show what there is."""
    from gateway.cli.terminal import Terminal

    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click has it from 8.2 on
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = "hugang" if context is None else context.command_path
    Terminal().fail(f"USAGE: {error.format_message().rstrip('.')}. See {path} -h")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM like Ctrl-C, so that every command tidies up on its way out."""
    raise KeyboardInterrupt


def _refuse_foreign_packages() -> None:
    """Say it plainly when another distribution's package hides one of ours."""
    home = Path(__file__).resolve().parent.parent.parent
    for name in ("ledger", "settlement"):
        found = importlib.util.find_spec(name)
        origin = found.origin if found is not None else None
        if origin is None or Path(origin).resolve().parent.parent != home:
            sys.exit(f"hugang: the package '{name}' comes from {origin}, not from Hugang; another package hides ours")
