"""``docs/cli.md``, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from gateway.cli import COMMANDS, cli
from gateway.cli.exits import MEANINGS

__all__ = ["cli_page"]

_HEAD = """# The command line

`make docs` writes this page from the commands; a test holds the two together. Results go to stdout, progress and errors
to stderr. A failure is one line, `hugang: CODE: sentence`, also with `--json`; a payment that was refused and the
verdict on an export are results. `NO_COLOR` is honoured, and whatever is not a terminal gets plain text. Amounts are
shown with two decimal places; `--json` gives minor units as digits. Private keys are read from the folder of the
network and from nowhere else, and every process listens on loopback.

## Environment

| variable | meaning |
|---|---|
| `HUGANG_DIR` | The folder of the network, wherever `--dir` is not given. |
| `NO_COLOR` | No colours, whatever its value. |
| `HUGANG_CRASH`, `HUGANG_CRASH_POINT` | For fault tests: `node` and `operator` kill themselves at the n-th crossing. |

## Exit codes

| code | name | meaning |
|---|---|---|
"""


def cli_page() -> str:
    """Give the page."""
    codes = "".join(f"| {code.value} | `{code.name}` | {meaning} |\n" for code, meaning in MEANINGS.items())
    root = click.Context(cli, info_name="hugang")
    sections = [_section(root, name) for name in COMMANDS]
    contents = "".join(f"- [`hugang {name}`](#hugang-{name})\n" for name in COMMANDS)
    head = f"{_HEAD}{codes}\n## Commands\n\n{contents}\n`hugang --version` prints the version, `hugang -h` the list.\n"
    return head + "".join(sections)


def _section(root: click.Context, name: str) -> str:
    command = cli.get_command(root, name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    context = click.Context(command, info_name=name, parent=root)
    usage = " ".join(command.collect_usage_pieces(context))
    text = inspect.cleandoc(command.help or "")
    rows = "".join(f"| {cell} | {text} |\n" for cell, text in _options(context, command))
    return f"\n### hugang {name}\n\n    hugang {name} {usage}\n\n{text}\n\n| option | meaning |\n|---|---|\n{rows}"


def _options(context: click.Context, command: click.Command) -> Iterator[tuple[str, str]]:
    """Give each option as its names and its help, in the order of ``--help``."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            names, text = record
            yield f"`{names}`", " ".join(text.split()).replace("|", "\\|")
