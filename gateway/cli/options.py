"""Options that several commands share, and what they give a command to work with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from gateway.config import Ports

__all__ = [
    "DEFAULT_FOLDER",
    "FOLDER_VARIABLE",
    "LEDGER",
    "NewFile",
    "folder_option",
    "hand_over",
    "json_option",
    "ledger_argument",
    "ports_option",
]

DEFAULT_FOLDER = "demo"
"""Where a network lies unless ``--dir`` or the variable ``HUGANG_DIR`` says otherwise."""
FOLDER_VARIABLE = "HUGANG_DIR"
LEDGER = click.Choice(["sh", "hk"], case_sensitive=False)

Command = TypeVar("Command", bound=Callable[..., Any])


class _PortsType(click.ParamType):  # type: ignore[type-arg] # generic only from click 8.2 on
    """Three port numbers, ``8701,8702,8700``, or ``free`` for any three that are."""

    name = "SH,HK,OPERATOR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ports:
        if isinstance(value, Ports):
            return value
        if value == "free":
            from gateway.supervisor import free_ports

            return free_ports()
        parts = str(value).split(",")
        numbers = [int(part) for part in parts if part.isascii() and part.isdecimal() and 1 <= int(part) <= 65_535]
        if not len(parts) == len(numbers) == len(set(numbers)) == 3:
            self.fail("not three different ports, such as 8701,8702,8700", param, ctx)
        return Ports(sh=numbers[0], hk=numbers[1], operator=numbers[2])


def folder_option(command: Command) -> Command:
    """Add ``--dir``: the folder of the network, with its keys; where a process does not answer, say how to start it."""

    @functools.wraps(command)
    def in_folder(*arguments: Any, folder: Path, **options: Any) -> Any:
        from gateway.client.errors import ServerUnreachable

        try:
            return command(*arguments, folder=folder, **options)
        except ServerUnreachable as error:
            from gateway.cli.terminal import invocation

            shown, started = invocation("status", folder), invocation("up --detach", folder)
            error.add_note(f"`{shown}` shows what runs, `{started}` starts the rest.")
            raise

    return click.option(
        "--dir",
        "folder",
        type=_Folder(file_okay=False, path_type=Path),
        default=DEFAULT_FOLDER,
        envvar=FOLDER_VARIABLE,
        show_default=True,
        show_envvar=True,
        help="Folder of the network: its settings, journals and keys.",
    )(cast("Command", in_folder))


def ports_option(command: Command) -> Command:
    """Add ``--ports``: the loopback ports of the three processes."""
    return click.option(
        "--ports",
        type=_PortsType(),
        help="Loopback ports of both nodes and the settlement operator; `free` takes any that are.",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json``: the result for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")(command)


def ledger_argument(command: Command) -> Command:
    """Add the ledger: ``sh`` or ``hk``."""
    return click.argument("ledger", type=LEDGER)(command)


class NewFile(click.ParamType):  # type: ignore[type-arg] # generic only from click 8.2 on
    """A file that is not there yet, in a folder that is."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Check both."""
        path = Path(value)
        if path.exists() or path.is_symlink():
            self.fail(f"{path} is there already, and is not overwritten", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"{path.parent} is no folder", param, ctx)
        return path


class _Folder(click.Path):
    """A folder's path, which an empty one is not: it would mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "":
            self.fail("an empty path", param, ctx)
        return super().convert(value, param, ctx)


def hand_over(result: object) -> None:
    """Give a command's result to a program that runs the command in its own process, as the demonstration does."""
    recorder = click.get_current_context().find_root().obj
    if isinstance(recorder, list):
        recorder.append(result)
