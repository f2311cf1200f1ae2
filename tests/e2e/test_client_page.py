"""docs/client.md and the client are one: every public method with its arguments, and every program runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import client as package
from gateway.client import BookTransfers, Client, ClientError
from gateway.problems import row
from ledger.errors import MalformedInput
from tests.network_fixture import Network, key_of, running_network

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PUBLIC = [name for name in vars(Client) if not name.startswith("_")]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


def call_of(name: str, kind: type = Client) -> str:
    """Write how a method is called, without types."""
    method = vars(kind)[name]
    if isinstance(method, property):
        return name
    signature = inspect.signature(method)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in list(signature.parameters.values())[1:]
    ]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return f"{'Client' if name == '__init__' else name}{text}"


@pytest.mark.parametrize("name", ["__init__", *PUBLIC])
def test_every_method_stands_on_the_page_as_it_is_called(name: str) -> None:
    """Each public method, and how a client is made, is written with its arguments and their defaults."""
    assert f"`{call_of(name)}`" in PAGE


def test_no_method_stands_on_the_page_that_is_none() -> None:
    """Each call of the tables is a public method."""
    calls = re.findall(r"^\| `([a-z_]+)(?:\([^`]*\))?` \|", PAGE, re.MULTILINE)
    assert sorted(calls) == sorted(PUBLIC)


def test_every_method_of_book_transfers_stands_on_the_page() -> None:
    """Their table has each public method as it is called, and no other."""
    names = [name for name, value in vars(BookTransfers).items() if callable(value) and not name.startswith("_")]
    assert re.findall(r"^\| `moves\.([a-z_]+\([^`]*\))` \|", PAGE, re.MULTILINE) == [
        call_of(name, BookTransfers) for name in names
    ]


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"signer"}))
def test_every_method_is_called_by_a_program(name: str) -> None:
    """Each public method is used in one of the programs."""
    assert any(re.search(rf"\.{name}\(", program) for program in PROGRAMS)


def test_every_error_stands_on_the_page() -> None:
    """Each error of the client is in the table with its attributes, and each code of the tables exists."""
    for name in ("ProblemError", "ServerUnreachable", "AnswerMalformed"):
        assert issubclass(getattr(package, name), ClientError)
        promised = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")).split("|")[3]
        source = inspect.getsource(getattr(package, name))
        for attribute in re.findall(r"`([a-z_]+)`", promised):
            assert f"self.{attribute}" in source or f"def {attribute}(" in source
    assert {name for name in package.__all__ if name.endswith(("Error", "Unreachable", "Malformed"))} == {
        "AnswerMalformed",
        "ClientError",
        "ProblemError",
        "ServerUnreachable",
    }
    codes = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE))
    assert len(codes) > 25
    assert [code for code in codes if row(code) is None] == []


def test_the_programs_run_one_after_another(
    network: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every program of the page runs in the folder of a running network, each going on from those before it."""
    monkeypatch.chdir(network.folder.root)
    names: dict[str, object] = {"__name__": "page"}
    for program in PROGRAMS:
        here = program.replace("http://127.0.0.1:8701", network.urls["SH"])
        here = here.replace("http://127.0.0.1:8700", network.urls["operator"])
        exec(compile(here, "docs/client.md", "exec"), names)
    assert "bytes" in capsys.readouterr().out


def test_the_program_of_the_readme_runs(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program of the README pays, once its placeholders are filled in."""
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    wallets = network.wallets["SH"]
    filled = {
        "http://127.0.0.1:PORT": network.urls["SH"],
        'load_key(Path("demo/keys/LIN.pem"))': "KEY",
        'Path("demo/sh/genesis.json")': f"Path({str(network.folder.sh / 'genesis.json')!r})",
        "LIN'S ADDRESS": wallets["a"],
        "THE TEA HOUSE'S": wallets["b"],
    }
    for placeholder, value in filled.items():
        assert placeholder in program
        program = program.replace(placeholder, value)
    exec(compile(program, "README.md", "exec"), {"KEY": key_of("customer-SH")})
    assert "SETTLED" in capsys.readouterr().out


def test_a_client_without_a_key_reads_what_is_public(network: Network) -> None:
    """Without a key nothing can be signed, and the page's error for that is the one that is raised."""
    with Client(network.urls["SH"]) as anybody:
        assert anybody.health()["status"] == "ok"
        with pytest.raises(MalformedInput, match="KEY_MISSING"):
            anybody.payment("8f6d1b7e-3c52-4c7b-9a1e-2f5d0b6c4e11")
