"""What nobody can mean: every command says so in one line and ends with the code that the page's table gives it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gateway.cli import COMMANDS, run
from gateway.cli.exits import ExitCode
from gateway.config import Ports
from gateway.names import Name, Names, add_party_key, save_names
from gateway.supervisor import free_ports, set_ports
from ledger.exports import FILE_NAME
from tests.network_fixture import Network, key_of, running_network

UETR = "8f6d1b7e-3c52-4c7b-9a1e-2f5d0b6c4e11"
"""A payment that nobody has made."""
Output = pytest.CaptureFixture[str]


@dataclass
class Place:
    """A folder for one case: ``net`` is a network that runs, ``stopped`` the same one as if it did not."""

    root: Path
    shared: Path

    @property
    def words(self) -> dict[str, str]:
        """What stands in a case's arguments for a path."""
        named = {"t": self.root, "net": self.root / "net", "stopped": self.root / "stopped", "ex": self.root / "ex"}
        return {name: str(path) for name, path in named.items()}

    def path(self, text: str) -> Path:
        """Give the path that a case's text means."""
        return Path(text.format(**self.words))


@dataclass(frozen=True)
class Case:
    """A command line, the code it must end with, and what its one line must say.

    ``before`` prepares the folder. A ``verdict`` is a result, so it stands on stdout.
    """

    line: str
    code: ExitCode
    says: str
    before: tuple[Callable[[Place], None], ...] = ()
    more: tuple[str, ...] = ()
    """Further arguments, which may be empty or hold blanks."""
    verdict: bool = False

    def __str__(self) -> str:
        return f"{self.line} {' '.join(self.more)}"[:60].strip().replace(" ", "_")


# --- what a case prepares ---------------------------------------------------------------------------------------------


def written(text: str, data: bytes) -> Callable[[Place], None]:
    """Have a file hold these bytes."""

    def write(place: Place) -> None:
        place.path(text).write_bytes(data)

    return write


def grown(text: str, data: bytes, size: int) -> Callable[[Place], None]:
    """Have a file begin with these bytes and count as larger than it is on disk."""

    def grow(place: Place) -> None:
        place.path(text).write_bytes(data)
        os.truncate(place.path(text), size)

    return grow


def made(text: str) -> Callable[[Place], None]:
    """Have a folder, and none of a file that lies there."""

    def make(place: Place) -> None:
        place.path(text).unlink(missing_ok=True)
        place.path(text).mkdir(parents=True)

    return make


def removed(text: str) -> Callable[[Place], None]:
    """Have a file removed."""

    def remove(place: Place) -> None:
        place.path(text).unlink()

    return remove


def opened(text: str) -> Callable[[Place], None]:
    """Have a file readable by everybody."""

    def chmod(place: Place) -> None:
        place.path(text).chmod(0o644)

    return chmod


def looped(text: str) -> Callable[[Place], None]:
    """Have a link that leads to itself: nobody can read it, whatever the rights."""

    def link(place: Place) -> None:
        place.path(text).unlink(missing_ok=True)
        place.path(text).symlink_to(place.path(text))

    return link


def cut(text: str, size: int) -> Callable[[Place], None]:
    """Have a file lose its end."""

    def shorten(place: Place) -> None:
        path = place.path(text)
        path.write_bytes(path.read_bytes()[:size])

    return shorten


def settings(**changes: object) -> Callable[[Place], None]:
    """Have the stopped Shanghai node other settings."""

    def change(place: Place) -> None:
        path = place.path("{stopped}/sh/node.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def taken(place: Place) -> None:
    """Have the stopped network's settings name the ports of the one that runs."""
    running = json.loads(place.path("{net}/sh/node.json").read_text())["port"]
    other = free_ports()
    set_ports(place.path("{stopped}"), Ports(running, other.hk, other.operator))


KEY = "{net}/keys/customer-SH.pem"
REFUSED, USAGE, AWAY, BROKEN = ExitCode.REFUSED, ExitCode.USAGE, ExitCode.UNAVAILABLE, ExitCode.INTEGRITY
RECEIPT, CERTIFICATE = b"\x92\xb0hugang-receipt/1", b"\x92\xb4hugang-certificate/1"
BOTH_CUT = (written("{t}/file", RECEIPT), written("{t}/cut", b"hugangEX\1"))
PAY = "pay a b 5 --dir {net}"
CASES = [
    # what is typed
    Case("fly", USAGE, "No such command"),
    Case("pay", USAGE, "Missing argument 'DEBTOR'"),
    Case("pay a b", USAGE, "Missing argument 'AMOUNT'"),
    Case("pay a b 5 6", USAGE, "unexpected extra argument"),
    Case("status --fast", USAGE, "No such option"),
    Case("payment xx " + UETR, USAGE, "is not one of"),
    Case("window 0", USAGE, "not in the range"),
    Case("window x", USAGE, "is not a valid integer"),
    Case("resync --wait -1", USAGE, "not in the range"),
    Case("init --ports 1,2", USAGE, "not three different ports"),
    Case("init --ports 1,1,2", USAGE, "not three different ports"),
    Case("init --cycle-interval -1", USAGE, "not in the range"),
    Case("init --dir", USAGE, "an empty path", more=("",)),
    Case("demo --payments 5", USAGE, "not in the range"),
    Case("certificate", USAGE, "name a WINDOW"),
    Case("project", USAGE, "Missing argument 'DIR'"),
    Case("project {t}/none", USAGE, "does not exist"),
    Case("project {t}", REFUSED, "FILE_UNREADABLE"),
    Case("project {net}/sh/genesis.json", USAGE, "name a new file for its tables with --out"),
    Case("snapshot", USAGE, "Missing argument 'DIR'"),
    Case("snapshot {t}", REFUSED, "FILE_UNREADABLE"),
    # amounts, names, ids
    *(
        Case("pay a b", REFUSED, "and no commas, written as 1000.00", more=(amount, "--dir", "{net}"))
        for amount in ("-5", "0", "0.00", "1.234", "1e3", "abc", "5,00", "1.", ".5", " 5", "", "1" * 17, "\uff11\uff12")
    ),
    Case("pay nobody b 5 --dir {net}", REFUSED, "NAME_NOT_FOUND"),
    Case("pay a nobody 5 --dir {net}", REFUSED, "`hugang account` lists all names."),
    Case("pay A b 5 --dir {net}", REFUSED, "NAME_NOT_FOUND: names.json knows no such name; perhaps a."),
    Case("pay a B 5 --dir {net}", REFUSED, "perhaps b."),
    Case("pay a b 5 --dir {net}", REFUSED, "no named accounts yet, and `make demo`", (removed("{net}/names.json"),)),
    Case("pay a SH000000000012 5 --dir {net}", REFUSED, "NAME_NOT_FOUND"),
    Case(PAY + " --uetr zz", REFUSED, "UETR_INVALID"),
    Case(PAY + " --uetr " + UETR.upper(), REFUSED, "UETR_INVALID"),
    Case(PAY + " --purpose LONGER", REFUSED, "this request asks for. (HTTP 400, path=$.purpose)"),
    Case(PAY + " --reference", REFUSED, "path=$.reference)", more=("x" * 141,)),
    Case(PAY + " --refund-of zz", REFUSED, "UETR_INVALID"),
    Case(
        PAY + " --value-date tomorrow", REFUSED, "VALUE_DATE_INVALID: This is no value date. Send a day as YYYY-MM-DD"
    ),
    Case(PAY + " --value-date 2099-12-31", REFUSED, "VALUE_DATE_RANGE"),
    Case(PAY + " --quote zz", REFUSED, "BODY_MALFORMED"),
    Case(PAY + " --key", REFUSED, "KEY_MALFORMED", more=("",)),
    Case(PAY + " --key", REFUSED, "SIGNATURE_PROFILE", more=("a b",)),
    Case(PAY + " --key", REFUSED, "SIGNATURE_PROFILE", more=("x" * 129,)),
    Case("pay a h 5 --dir {net}", REFUSED, "QUOTE_MISSING"),
    Case("pay a b 99999999 --dir {net}", REFUSED, "REFUSED DEBIT_LIMIT", verdict=True),
    Case("pay a b 99999999 --dir {net}", REFUSED, "  The available balance is not enough.\n", verdict=True),
    Case("pay a b 99999999 --json --dir {net}", REFUSED, '"detail": "Fund the account, wait', verdict=True),
    Case("pay a b 99999999 --json --dir {net}", REFUSED, '"code": "DEBIT_LIMIT"', verdict=True),
    Case("account nobody --dir {net}", REFUSED, "NAME_NOT_FOUND"),
    Case("account SH --dir {net}", REFUSED, "NAME_NOT_FOUND"),
    Case("account --class IV --dir {net}", USAGE, "takes the NAME"),
    Case("account a --class iv --dir {net}", REFUSED, "FILE_UNREADABLE"),
    Case("cap sh BANK CNY", USAGE, "Missing argument 'AMOUNT'"),
    Case("cap sh BANK CNY 1.234 --dir {net}", REFUSED, "AMOUNT_INVALID"),
    Case("cap sh nobody CNY 5 --dir {net}", REFUSED, "PARTICIPANT_NOT_FOUND"),
    Case("cap sh bank-SH XAU 5 --dir {net}", REFUSED, "ASSET_UNKNOWN"),
    Case("cap xx bank-SH CNY 5 --dir {net}", USAGE, "is not one of"),
    Case("clock --advance tomorrow --dir {net}", USAGE, "is no time span"),
    Case("clock --advance 1d --dir {net}", REFUSED, "CLOCK_REAL"),
    Case("clock --advance 9999d --dir {net}", REFUSED, "BODY_MALFORMED"),
    Case("rules sh --valid-from 2099-12-31 --dir {net}", USAGE, "takes --valid-from"),
    Case("rules sh --bring {t}/none --dir {net}", REFUSED, "FILE_UNUSABLE"),
    Case("rules sh --bring {t}/file --dir {net}", REFUSED, "RULES_MALFORMED", (written("{t}/file", b"[]"),)),
    Case("rules sh --bring {t}/file --dir {net}", REFUSED, "BODY_MALFORMED", (written("{t}/file", b"{}"),)),
    Case("rules sh --bring ecny-wallets --valid-from soon --dir {net}", REFUSED, "BODY_MALFORMED"),
    Case("rules sh --bring ecny-wallets --valid-from 2025-13-01 --dir {net}", REFUSED, "VALID_FROM_INVALID"),
    Case("balance-proof nobody --dir {net}", REFUSED, "NAME_NOT_FOUND"),
    Case("payment sh zz --dir {net}", REFUSED, "UETR_INVALID"),
    Case(f"payment sh {UETR} --dir {{net}}", REFUSED, "PAYMENT_NOT_FOUND"),
    Case(f"receipt {UETR} --dir {{net}}", REFUSED, "PAYMENT_NOT_FOUND"),
    Case("receipt zz --dir {net}", REFUSED, "UETR_INVALID"),
    Case("window 99 --dir {net}", REFUSED, "WINDOW_NOT_FOUND"),
    Case("window 99 --json --dir {net}", REFUSED, "WINDOW_NOT_FOUND"),
    Case("certificate 99 --dir {net}", REFUSED, "WINDOW_NOT_FOUND"),
    Case("certificate 2 --dir {net}", REFUSED, "CERTIFICATE_MISSING"),
    Case("init --dir {t}/new --network", REFUSED, "NETWORK_NAME", more=("BAD NAME",)),
    Case("init --dir {net}", REFUSED, "NETWORK_EXISTS"),
    # no network there
    *(
        Case(f"{line} --dir {{t}}/nowhere", REFUSED, "NETWORK_MISSING: No network lies there; go to the folder of your")
        for line in (
            "status",
            "pay lin tea-house 1",
            "account",
            "account lin",
            "balance-proof lin",
            "window",
            "settle",
            "settle --json",
            "cosign",
            "resync",
            "trial-balance",
            "export {t}/out",
            "certificate 1",
            f"payment sh {UETR}",
            f"receipt {UETR}",
        )
    ),
    Case("node sh --dir {t}/nowhere", REFUSED, "FILE_UNREADABLE"),
    Case("operator --dir {t}/nowhere", REFUSED, "FILE_UNREADABLE"),
    Case("up --dir {t}/file", USAGE, "is a file", (written("{t}/file", b"x"),)),
    Case("init --dir {t}/file/net", REFUSED, "FILE_UNUSABLE: Not a directory", (written("{t}/file", b"x"),)),
    Case("demo --dir {t}/mine", REFUSED, "FOLDER_IN_USE", (made("{t}/mine"), written("{t}/mine/letter", b"x"))),
    # a network that does not run
    *(
        Case(f"{line} --dir {{stopped}}", AWAY, "hugang up --detach --dir {stopped}` starts the rest.")
        for line in (
            "account a",
            "window --json",
            "settle",
            "resync --wait 0",
            "trial-balance",
            "export {t}/out",
            "certificate 1",
            f"receipt {UETR}",
            "balance-proof a",
        )
    ),
    Case("cosign --dir {stopped}", AWAY, "NODE_UNREACHABLE: A node cannot be reached."),
    # files of the network
    Case(PAY, REFUSED, "KEY_FILE_OPEN", (opened(KEY),)),
    Case(PAY, REFUSED, "KEY_FILE_MALFORMED", (written(KEY, b"nonsense"),)),
    Case(PAY, REFUSED, "FILE_UNREADABLE", (removed(KEY),)),
    Case(PAY, REFUSED, "Is a directory", (made(KEY),)),
    Case(PAY, REFUSED, "FILE_UNREADABLE", (looped(KEY),)),
    Case(PAY, REFUSED, "NAMES_MALFORMED", (written("{net}/names.json", b"{"),)),
    Case("account --dir {net}", REFUSED, "FILE_UNUSABLE: Is a directory", (made("{net}/names.json"),)),
    Case("account a --dir {net}", REFUSED, "GENESIS_MALFORMED", (written("{net}/sh/genesis.json", b"{}"),)),
    Case("status --dir {net}", REFUSED, "CONFIG_MALFORMED", (written("{net}/sh/node.json", b"{}"),)),
    Case("status --dir {net}", REFUSED, "RUN_FILE_MALFORMED", (written("{net}/run.json", b"{"),)),
    Case("down --dir {net}", REFUSED, "RUN_FILE_MALFORMED", (written("{net}/run.json", b"{"),)),
    Case("down --dir {net}", REFUSED, "FILE_UNUSABLE: Is a directory", (made("{net}/run.json"),)),
    # settings of a process
    Case("node sh --dir {stopped}", AWAY, "PORT_TAKEN", (taken,)),
    Case("up --dir {stopped}", AWAY, "PORT_TAKEN", (taken,)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(host="a host"),)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(port=0),)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(peer_url="nonsense"),)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(peer_url="ftp://127.0.0.1:1"),)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(ledger="HK"),)),
    Case("node sh --dir {stopped}", REFUSED, "FILE_UNREADABLE", (settings(key_file="none.pem"),)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(key_file="a\0b"),)),
    Case("node sh --dir {stopped}", REFUSED, "KEY_FILE_WRONG", (settings(key_file="../hk/node.pem"),)),
    Case("node sh --dir {stopped}", REFUSED, "STORE_URL", (settings(database=""),)),
    Case("node sh --dir {stopped}", REFUSED, "STORE_URL", (settings(database="mysql://host/x"),)),
    Case("node sh --dir {stopped}", REFUSED, "STORE_URL", (settings(database="postgresql://"),)),
    Case("node sh --dir {stopped}", REFUSED, "CONFIG_MALFORMED", (settings(database="a\0b"),)),
    Case("node sh --dir {stopped}", REFUSED, "STORE_NOT_FOUND", (settings(database="none/journal.db"),)),
    Case("node sh --dir {stopped}", REFUSED, "STORE_EXISTS", (settings(database="."),)),
    Case("node sh --dir {stopped}", REFUSED, "File name too long", (settings(database="x" * 300),)),
    Case("node sh --dir {stopped}", REFUSED, "STORE_FORMAT", (written("{stopped}/sh/journal.db", b"junk" * 999),)),
    # exports and checkpoints
    Case("verify {t}/none", USAGE, "does not exist"),
    Case("verify", USAGE, "does not exist", more=("",)),
    Case("verify {t}/loop", USAGE, "does not exist", (looped("{t}/loop"),)),
    Case("verify {t}/empty", REFUSED, "EXPORT_NOT_FOUND", (made("{t}/empty"),)),
    Case("verify {t}/two", REFUSED, "EXPORT_NOT_FOUND", (made("{t}/two/sh/" + FILE_NAME),)),
    Case("verify {ex} --genesis-hash 12", USAGE, "not 64 lower-case hexadecimal digits"),
    Case("verify {ex} --genesis-hash " + "Z" * 64, USAGE, "not 64 lower-case hexadecimal digits"),
    Case("verify {ex} --genesis-hash " + "0" * 64, BROKEN, "GENESIS_HASH", verdict=True),
    Case("verify {ex} --checkpoint {t}/none", USAGE, "does not exist"),
    Case("verify {ex} --checkpoint {t}", USAGE, "is a directory"),
    Case("verify {ex} --checkpoint {t}/note", REFUSED, "CHECKPOINT_OF_NONE", (written("{t}/note", b""),)),
    Case("verify {ex} --checkpoint {t}/note", REFUSED, "NOTE_MALFORMED", (written("{t}/note", b"test-net/sh\nx\n"),)),
    Case("verify {t}/file", BROKEN, "EXPORT_CUT", (written("{t}/file", b""),), verdict=True),
    Case("verify {t}/file", BROKEN, "EXPORT_MALFORMED", (written("{t}/file", b"x" * 99),), verdict=True),
    Case("verify {ex}", BROKEN, "EXPORT_CUT", (cut("{ex}/sh/" + FILE_NAME, 9_000),), verdict=True),
    Case("verify {ex}", BROKEN, "EXPORT_CUT", (cut("{ex}/hk/" + FILE_NAME, 10),), verdict=True),
    Case("verify {ex} --json", BROKEN, '"verdict": "refused"', (cut("{ex}/sh/" + FILE_NAME, 9_000),), verdict=True),
    Case("export {ex} --dir {net}", REFUSED, "FILE_EXISTS: An export is there already; name another folder."),
    Case("export {t}/file --dir {net}", USAGE, "is a file", (written("{t}/file", b"x"),)),
    Case("export {t}/file/x --dir {net}", REFUSED, "Not a directory", (written("{t}/file", b"x"),)),
    Case("export {t}/half --dir {net}", REFUSED, "File exists", (made("{t}/half"), written("{t}/half/sh", b"x"))),
    # receipts, proofs, certificates
    Case("verify-receipt {t}/none", USAGE, "does not exist"),
    Case("verify-receipt {t}", USAGE, "is a directory"),
    Case("verify-receipt {t}/file --dir {net}", BROKEN, "RECEIPT_MALFORMED", (written("{t}/file", b""),)),
    Case("verify-receipt {ex}/sh/journal.hgx --dir {net}", BROKEN, "RECEIPT_MALFORMED"),
    Case("verify-receipt {t}/file --json --dir {net}", BROKEN, "RECEIPT_MALFORMED", (written("{t}/file", b"x"),)),
    Case("verify-receipt {t}/big --dir {net}", BROKEN, "This is no receipt", (written("{t}/big", bytes(2**20 + 1)),)),
    Case(
        "verify-receipt {t}/big --dir {net}", BROKEN, "larger than any", (written("{t}/big", RECEIPT + bytes(2**20)),)
    ),
    Case("verify-receipt {t}/file --dir {net}", BROKEN, "cannot be read", (written("{t}/file", RECEIPT),)),
    Case("verify-receipt {t}/file --dir {net}", BROKEN, "This is a cert", (written("{t}/file", CERTIFICATE),)),
    Case("verify-receipt {t}/file --dir {t}/nowhere", REFUSED, "give --genesis FILE", (written("{t}/file", b"x"),)),
    Case("verify-receipt {t}/file --genesis {t}/cut", BROKEN, "EXPORT_CUT", (*BOTH_CUT,)),
    Case("verify-receipt {t}/file --genesis {t}/file", REFUSED, "GENESIS_MALFORMED", (written("{t}/file", b"x"),)),
    Case("certificate --check {t}/none", USAGE, "does not exist"),
    Case("certificate --check {t}/file --dir {net}", BROKEN, "CERTIFICATE_MALFORMED", (written("{t}/file", b"x"),)),
    Case("certificate --check {t}/file --dir {net}", BROKEN, "hugang verify-receipt", (written("{t}/file", RECEIPT),)),
    Case("certificate --check {t}/file --dir {net}", BROKEN, "cannot be read", (written("{t}/file", CERTIFICATE),)),
    Case(
        "certificate --check {t}/file --dir {net}", BROKEN, "larger than any", (grown("{t}/file", CERTIFICATE, 2**28),)
    ),
    Case("certificate --check {t}/f --dir {t}/no", REFUSED, "GENESIS_MISSING", (written("{t}/f", CERTIFICATE),)),
    Case("certificate --check {ex}/sh/journal.hgx --genesis {net}/sh/genesis.json", USAGE, "so --genesis twice"),
    Case("certificate 1 --out {t} --dir {net}", USAGE, "is there already"),
    Case("certificate 1 --out {t}/no/file --dir {net}", USAGE, "is no folder"),
    Case("balance-proof a --out {t}/file --dir {net}", USAGE, "is there already", (written("{t}/file", b"x"),)),
    Case(f"receipt {UETR} --out {{t}}/no/file --dir {{net}}", USAGE, "is no folder"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running network with names and keys in its folder (``net``), and the exports of its first window (``ex``)."""
    home = tmp_path_factory.mktemp("shared")
    with running_network(home / "net") as network:
        own_names(network, home / "net")
        wallets = network.wallets
        network.customer("SH").pay(debtor=wallets["SH"]["a"], creditor=wallets["HK"]["other"], asset="CNY", amount=7)
        network.settle()
        assert run(["export", str(home / "ex"), "--dir", str(home / "net")]) == ExitCode.OK
        yield home


def own_names(network: Network, folder: Path) -> None:
    """Write names and keys as a demonstration leaves them."""
    accounts = {"a": ("SH", "customer-SH", "a", "CNY"), "b": ("SH", "shop-SH", "b", "CNY")}
    accounts["h"] = ("HK", "customer-HK", "a", "HKD")
    names = {
        name: Name(ledger=ledger, party=party, address=network.wallets[ledger][wallet], asset=asset, title=name)
        for name, (ledger, party, wallet, asset) in accounts.items()
    }
    save_names(folder, Names(names=names))
    for party in ("customer-SH", "shop-SH", "customer-HK"):
        add_party_key(folder, party, key_of(party))


@pytest.fixture
def place(shared: Path, tmp_path: Path) -> Place:
    """A copy of what all cases share, without journals: settings, keys and names."""
    for name, source in (("net", "net"), ("stopped", "net"), ("ex", "ex")):
        shutil.copytree(
            shared / source, tmp_path / name, ignore=shutil.ignore_patterns("journal.db*", "*.tiles", "*.note")
        )
    set_ports(tmp_path / "stopped", free_ports())
    return Place(tmp_path, shared)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input(case: Case, place: Place, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what is wrong, on stderr unless it is a verdict, and the exit code is the documented one."""
    monkeypatch.chdir(place.root)
    monkeypatch.setattr("gateway.client.sync.BACKOFF_MS", 1)
    for prepare in case.before:
        prepare(place)
    arguments = [*case.line.split(), *case.more]
    capsys.readouterr()
    code = run([argument.format(**place.words) for argument in arguments])
    printed = capsys.readouterr()
    assert (code, printed.err if not case.verdict else "") == (case.code, printed.err if not case.verdict else "")
    if case.verdict:
        assert case.says in printed.out
        assert printed.err == ""
        return
    assert case.says.replace("{stopped}", place.words["stopped"]) in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("hugang: ")


def test_there_are_many_and_of_every_command() -> None:
    """The table has every command that takes input from people, and each code that bad input can have."""
    assert len(CASES) > 100
    assert {case.line.split()[0] for case in CASES} - {"fly"} == set(COMMANDS) - {"doctor"}
    assert {case.code for case in CASES} == {REFUSED, USAGE, AWAY, BROKEN}


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"hello", "ANSWER_MALFORMED: What answers at http://127.0.0.1:"),
        (200, b'{"status": "ok"}', "ANSWER_MALFORMED"),
        (200, b"[1]", "ANSWER_MALFORMED"),
        (404, b"no", "hugang: NO_PROBLEM: What answers gives no reason"),
    ],
)
def test_another_program_listens(place: Place, capsys: Output, status: int, body: bytes, says: str) -> None:
    """Where some other server answers at a node's address, the node counts as away."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            others = free_ports()
            set_ports(place.path("{stopped}"), Ports(server.server_port, others.hk, others.operator))
            assert run(["account", "a", "--dir", str(place.path("{stopped}"))]) == AWAY
        finally:
            server.shutdown()
            thread.join()
    printed = capsys.readouterr()
    assert says in printed.err
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)


def test_a_host_at_which_nobody_can_listen(place: Place, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose host is none of this machine's is refused before its journal is opened."""
    fault = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
    monkeypatch.setattr("gateway.serve.listen_fault", lambda *_: fault)
    for process in (["node", "sh"], ["operator"]):
        assert run([*process, "--dir", str(place.path("{stopped}"))]) == REFUSED
        assert "HOST_UNUSABLE: Nobody can listen there: Cannot assign" in capsys.readouterr().err
    assert not place.path("{stopped}/sh/journal.db").exists()


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"]])
def test_nobody_reads_on(tmp_path: Path, arguments: list[str]) -> None:
    """A command whose output nobody reads to its end, as behind a pipe into head, ends quietly with its own code."""
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in said
