"""The README cannot rot: its links lead somewhere, its commands exist with their options, its output is a real one's.

That each line of the demonstration's output is still printed is a test of ``tests/e2e/test_demo.py``, which has one.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from gateway.cli import cli
from settlement.workload import PARTICIPANT_COUNT, PAYMENT_COUNT, SEED

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_LINES = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
OUTPUT = re.findall(r"<!-- demo -->\n```text\n(.*?)```", README, re.DOTALL)[0]
HUGANG_LINES = [line.removeprefix("$ ").split("   #")[0] for line in OUTPUT.splitlines() if line.startswith("$ ")]
HUGANG_LINES += [line.removeprefix(".venv/bin/") for line in SHELL_LINES if line.startswith(".venv/bin/hugang")]
HUGANG_LINES += re.findall(r"`(hugang [^`]+)`", README)
LINKS = re.findall(r"\]\(([^)]+)\)", README)


def targets() -> set[str]:
    """Give the targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def anchors(page: str) -> set[str]:
    """Give the anchors of a page's headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link: str) -> None:
    """A link names a file of the project, and an anchor a heading of its page."""
    path, _, anchor = link.partition("#")
    page = ROOT / path if path else ROOT / "README.md"
    assert page.exists(), link
    if anchor:
        assert anchor in anchors(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", HUGANG_LINES)
def test_every_hugang_command_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command line parses: the command exists, and so do its options and arguments."""
    words = shlex.split(line)[1:]
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _parameter, _context: value)
    root = click.Context(cli, info_name="hugang")
    command = cli.get_command(root, words[0])
    assert command is not None, line
    command.make_context(words[0], words[1:], parent=root)


@pytest.mark.parametrize("line", [line for line in SHELL_LINES if line.startswith("make")])
def test_every_make_target_exists(line: str) -> None:
    """Each make command of a block names a target of the Makefile."""
    assert line.split()[1] in targets()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make\s([a-z-]+)`", README))))
def test_every_target_in_the_text_exists(target: str) -> None:
    """Each make command of the text names a target of the Makefile."""
    assert target in targets()


def test_every_shell_line_is_checked() -> None:
    """Every line of every shell block is a make, a hugang, a clone or a step into the clone."""
    kinds = ("make ", ".venv/bin/hugang ", "git clone ", "cd hugang")
    assert [line for line in SHELL_LINES if not line.startswith(kinds)] == []
    assert len(SHELL_LINES) > 10


def test_every_module_that_is_named_exists() -> None:
    """A module that the README runs with python -m is there, or is a package that can be run."""
    modules = [ROOT / name.replace(".", "/") for name in re.findall(r"python -m ([a-z_.]+)", README)]
    assert modules
    assert [path for path in modules if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())] == []


def test_the_layout_is_the_projects() -> None:
    """The layout names the packages and folders that there are."""
    block = re.search(r"## Layout\n\n```text\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert all((ROOT / line.split()[0]).is_dir() for line in block[1].splitlines())


def test_the_output_is_of_the_default_day() -> None:
    """The demonstration that is shown is the default one: its seed, its payments, its participants."""
    assert f"seed {SEED}: {PAYMENT_COUNT:,} payments of {PARTICIPANT_COUNT} participants" in OUTPUT
    assert OUTPUT.rstrip().endswith("expectations hold.")


def test_it_says_that_no_money_is_real() -> None:
    """The first screen says that nothing here is real money."""
    assert "No real money" in "\n".join(README.splitlines()[:12])
