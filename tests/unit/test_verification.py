"""Checking exports and receipts by genesis documents: a pair must be that of one network's two ledgers."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from gateway.cli import run
from gateway.cli.exits import ExitCode
from gateway.verification import Verification, verify_exports
from ledger import genesis
from ledger.exports import FILE_NAME, write_export
from ledger.receipts import join
from ledger.runtime import ManualRuntime, SystemRuntime
from ledger.store import MemoryStore, Store
from tests.receipt_fixture import PAIR, journals


def exported(folder: Path, store: Store) -> Path:
    """Write an export into a new folder."""
    folder.mkdir()
    path = folder / FILE_NAME
    with path.open("xb") as file:
        write_export(store, file)
    return path


def verified(folder: Path, first: Store, second: Store) -> Verification:
    """Verify two journals together."""
    exports = [exported(folder / "first", first), exported(folder / "second", second)]
    return verify_exports(exports, runtime=SystemRuntime())


def empty(document: genesis.Genesis) -> MemoryStore:
    """Give a journal that has only begun."""
    return MemoryStore(genesis.encode(document), runtime=ManualRuntime())


def test_the_two_journals_of_a_network_are_verified(tmp_path: Path) -> None:
    """Both ledgers of one network are held against each other, and every settled window is proved."""
    found = verified(tmp_path, journals().stores["SH"], journals().stores["HK"])
    assert found.is_good, found.failure
    assert set(found.reports) == {"SH", "HK"}
    assert len(found.windows) == 4


@pytest.mark.parametrize("own", ["SH", "HK"])
def test_journals_of_two_networks_are_refused(tmp_path: Path, own: str) -> None:
    """A journal of another network, though it has the same name and the same keys, is no other half of this one."""
    other = PAIR["HK" if own == "SH" else "SH"]
    for number, document in enumerate(
        (
            msgspec.structs.replace(other, created_ns=other.created_ns + 1),
            msgspec.structs.replace(other, network="hugang-other"),
            PAIR[own],
        )
    ):
        (tmp_path / str(number)).mkdir()
        found = verified(tmp_path / str(number), journals().stores[own], empty(document))
        assert found.failure is not None
        assert (found.failure.subject, found.failure.code) == ("genesis", "GENESIS_PAIR")
        assert not found.is_good
        assert found.findings == []


@pytest.fixture
def across(tmp_path: Path) -> Path:
    """Give a folder with the receipt of a payment from Shanghai to Hong Kong, and both genesis documents."""
    receipt = join(journals().receipt("SH", "ann", "single"), journals().receipt("HK", "dan", "single"))
    (tmp_path / "receipt").write_bytes(receipt)
    for ledger, document in PAIR.items():
        (tmp_path / ledger).write_bytes(genesis.encode(document))
    return tmp_path


@pytest.mark.parametrize(
    ("trusted", "is_proven"), [(("SH",), True), (("HK",), False), (("SH", "HK"), True), (("HK", "SH"), True)]
)
def test_the_command_says_whether_the_ledger_is_proven(
    across: Path, capsys: pytest.CaptureFixture[str], trusted: tuple[str, ...], is_proven: bool
) -> None:
    """A receipt is checked by either genesis or by both; what only the payer's ledger's proves is said to be stated."""
    options = [word for ledger in trusted for word in ("--genesis", str(across / ledger))]
    assert run(["verify-receipt", str(across / "receipt"), "--json", *options]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["is_addressee_proven"] is is_proven
    assert run(["verify-receipt", str(across / "receipt"), *options]) == ExitCode.OK
    assert ("made for its ledger: stated by the node" in capsys.readouterr().out) is not is_proven


def test_the_command_takes_a_pair_of_genesis_documents(across: Path) -> None:
    """Three documents are a mistake of usage, and two of one ledger are refused."""
    receipt, own = str(across / "receipt"), ["--genesis", str(across / "SH")]
    assert run(["verify-receipt", receipt, *own, *own, *own]) == ExitCode.USAGE
    assert run(["verify-receipt", receipt, *own, *own]) == ExitCode.INTEGRITY
