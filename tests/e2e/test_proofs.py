"""Proofs, receipts and cosigned checkpoints of nodes as they run, and nodes that come back from an old backup."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import peer
from gateway.cli import run
from gateway.cli.exits import ExitCode
from gateway.client import ProblemError
from gateway.config import load_genesis
from gateway.node import COSIGNED_FILE, KEPT_FILE, TILES_FILE, Node
from ledger import checkpoint, columns, logs, merkle
from ledger.accounts import parse_address
from ledger.errors import IntegrityFailure
from ledger.genesis import Genesis
from ledger.receipts import join
from ledger.sealed import verify_balance
from ledger.transfers import Result, id_halves, transfers
from settlement.legs import Leg, leg_id, parse_uetr
from settlement.payment_receipts import verify
from settlement.views import PaymentStatus
from tests.http_fixture import TEXT, carry
from tests.network_fixture import NETWORK, READY_S_MAX, Network, key_of, running_network

LEDGERS = ("SH", "HK")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file that change nothing about its nodes."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


@pytest.fixture(scope="module")
def settled(network: Network) -> str:
    """Settle a payment across the border; gives its UETR."""
    uetr = across(network, 1_234)
    assert network.settle()["state"] == "SETTLED"
    return uetr


def across(network: Network, amount: int) -> str:
    """Have Shanghai's customer pay Hong Kong's; gives the UETR."""
    uetr = network.customer("SH").new_id()
    wallets = network.wallets
    network.customer("SH").pay(
        debtor=wallets["SH"]["a"], creditor=wallets["HK"]["other"], asset="CNY", amount=amount, uetr=uetr
    )
    return uetr


def genesis_of(network: Network, ledger: str) -> Genesis:
    """Read a ledger's genesis from its folder."""
    return load_genesis(network.folder.node(ledger) / "genesis.json")


def opened(network: Network, ledger: str) -> checkpoint.OpenedCheckpoint:
    """Read the checkpoint that a node keeps."""
    note = network.client(ledger, None).cosigned_checkpoint().encode()
    return logs.open_own(note, genesis_of(network, "SH"), ledger)


# --- proofs -----------------------------------------------------------------------------------------------------------


def test_every_position_has_a_proof(network: Network, settled: str) -> None:
    """Every position's inclusion proof holds under the root of the node's own signed checkpoint."""
    for ledger in LEDGERS:
        client = network.client(ledger, None)
        note = logs.open_own(client.checkpoint().encode(), genesis_of(network, ledger), ledger).checkpoint
        for position in range(note.size):
            found = client.inclusion_proof(position, size=note.size)
            proof = [bytes.fromhex(item) for item in found["proof"]]
            leaf = bytes.fromhex(found["leaf_hash"])
            merkle.verify_inclusion(leaf, position, note.size, proof, note.root)
        assert client.inclusion_proof(0)["size"] == note.size


def test_sizes_are_consistent(network: Network, settled: str) -> None:
    """The tree of the kept checkpoint is proven to be the beginning of the newest one."""
    for ledger in LEDGERS:
        client = network.client(ledger, None)
        kept = opened(network, ledger).checkpoint
        found = client.consistency_proof(kept.size)
        proof = [bytes.fromhex(item) for item in found["proof"]]
        merkle.verify_consistency(kept.size, kept.root, found["to"], bytes.fromhex(found["to_root"]), proof)
        assert client.consistency_proof(kept.size, kept.size)["proof"] == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/proofs/inclusion?position=999999", 400, "PROOF_RANGE"),
        ("/v1/proofs/inclusion?position=1&size=999999", 404, "POSITION_NOT_FOUND"),
        ("/v1/proofs/inclusion?size=3", 400, "PARAMETER_INVALID"),
        ("/v1/proofs/inclusion?position=-1", 400, "PARAMETER_INVALID"),
        ("/v1/proofs/inclusion?position=1&x=1", 400, "PARAMETER_INVALID"),
        ("/v1/proofs/consistency?from=4&to=3", 400, "PROOF_RANGE"),
        ("/v1/proofs/consistency?from=1&to=999999", 404, "POSITION_NOT_FOUND"),
        ("/v1/proofs/consistency", 400, "PARAMETER_INVALID"),
    ],
)
def test_proofs_that_there_are_not(network: Network, settled: str, path: str, status: int, code: str) -> None:
    """A proof outside the journal, or asked for in another form, is a problem with its code."""
    answer = network.http.get(network.urls["SH"] + path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


# --- receipts ---------------------------------------------------------------------------------------------------------


def test_a_settled_payment_has_a_cosigned_receipt(network: Network, settled: str) -> None:
    """After its window, payer and payee each get a receipt that both nodes' signatures prove, and both make one."""
    payer = network.customer("SH").receipt(settled)
    payee = network.customer("HK").receipt(settled)
    for receipt in (payer, payee):
        found = verify(receipt, genesis_of(network, "HK"))
        assert (found.uetr, found.status, found.is_status_proven) == (settled, PaymentStatus.SETTLED, True)
        assert found.receipt.parts[0].cosigned_at_s
        assert len(receipt) < 8 * 1024
    both = verify(join(payer, payee), genesis_of(network, "SH"))
    assert (both.amount, both.creditor_amount, both.is_body_shown) == (1_234, 1_234, True)


def test_a_payment_just_made_has_a_receipt(network: Network, settled: str) -> None:
    """A payment that was answered a moment ago has a receipt under a checkpoint that nobody has cosigned yet."""
    customer, wallets = network.customer("SH"), network.wallets["SH"]
    made = customer.pay(debtor=wallets["a"], creditor=wallets["b"], asset="CNY", amount=7)
    found = verify(customer.receipt(made["uetr"]), genesis_of(network, "SH"))
    (part,) = found.receipt.parts
    assert (found.status, found.amount, part.position) == (PaymentStatus.SETTLED, 7, made["position"])
    assert part.block_hash.hex() == made["block_hash"]
    assert dict(part.cosigned_at_s) == {}
    shop = network.client("SH", key_of("shop-SH"))
    assert verify(shop.receipt(made["uetr"], payer="customer-SH"), genesis_of(network, "SH")).amount == 7


def test_a_payer_that_does_not_exist_is_told_like_any_other(network: Network, settled: str) -> None:
    """Who asks for a receipt learns of no party whether it exists, but the auditor, who knows all."""
    shop, auditor = network.client("SH", key_of("shop-SH")), network.client("SH", network.keys.auditor)
    asked = [
        (shop, "bank-SH", "PAYMENT_NOT_FOUND"),
        (shop, "nobody", "PAYMENT_NOT_FOUND"),
        (auditor, "nobody", "PARTY_NOT_FOUND"),
    ]
    for client, payer, code in asked:
        with pytest.raises(ProblemError) as caught:
            client.receipt(shop.new_id(), payer=payer)
        assert caught.value.code == code


def test_a_refusal_for_a_leg_that_was_taken_has_a_receipt(network: Network, settled: str) -> None:
    """A payment of which a book transfer took one further id is refused, each time, is read so, and has its receipt."""
    bank, customer = network.client("SH", key_of("bank-SH")), network.wallets["SH"]["a"]
    position = next(entry for entry in bank.accounts() if (entry["code"], entry["asset"]) == ("POSITION", "CNY"))
    own = bank.open_accounts([("bank-SH", "CNY")])["accounts"][0]["address"]
    uetr, taken = bank.new_id(), transfers(1)
    taken["id_hi"], taken["id_lo"] = id_halves(leg_id(parse_uetr(uetr), Leg.FEE))
    taken["amount"], taken["debit"] = 1, parse_address(position["address"])[1]
    taken["credit"] = parse_address(own)[1]
    bank.transfer_columns(columns.encode(taken))
    told = []
    for _ in range(2):
        with pytest.raises(ProblemError, match="ID_EXISTS") as caught:
            bank.pay(debtor=position["address"], creditor=customer, asset="CNY", amount=5, fee=1, uetr=uetr)
        told.append(caught.value.problem)
    assert (told[0]["field"], "repeated" in told[0]) == ("$", False)
    assert told[1] == told[0] | {"repeated": True, "request_id": told[1]["request_id"]}
    view = bank.payment(uetr)
    assert (view["state"], view["reason"], view["money"]["amount"]) == ("REFUSED", "ID_EXISTS", "5")
    found = verify(bank.receipt(uetr), genesis_of(network, "SH"))
    assert (found.status, found.reason, found.amount) == (PaymentStatus.REFUSED, Result.ID_EXISTS, 5)


def test_a_receipt_that_does_not_verify_stops_no_node(
    network: Network, settled: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the node's own check of a receipt fails, its reader is told, the log says why, and the node works on."""

    def contradicted(*_: object) -> None:
        raise IntegrityFailure("RECEIPT_CONTRADICTION", "as asked")

    with monkeypatch.context() as patched:
        patched.setattr("settlement.payment_receipts.verify", contradicted)
        with pytest.raises(ProblemError) as caught:
            network.customer("SH").receipt(settled)
    assert (caught.value.status, caught.value.code) == (404, "RECEIPT_UNPROVEN")
    assert "RECEIPT_CONTRADICTION: as asked" in caplog.text
    assert not network.nodes["SH"].is_halted
    assert verify(network.customer("SH").receipt(settled), genesis_of(network, "SH")).uetr == settled


def test_a_receipt_is_for_those_it_concerns(network: Network, settled: str) -> None:
    """Somebody else's payment has no receipt, and without a signature there is none at all."""
    for reader in (network.client("SH", key_of("shop-SH")), network.client("HK", key_of("shop-HK"))):
        with pytest.raises(ProblemError) as caught:
            reader.receipt(settled)
        assert caught.value.code == "PAYMENT_NOT_FOUND"
    answer = network.http.get(f"{network.urls['SH']}/v1/payments/{settled}/receipt")
    assert answer.json()["code"] == "SIGNATURE_MISSING"


def test_a_balance_is_proven(network: Network, settled: str) -> None:
    """An account's owner gets the proof of its sealed balance, and nobody else does."""
    address = network.wallets["HK"]["other"]
    found = verify_balance(network.customer("HK").balance_proof(address), genesis_of(network, "HK"))
    assert found.address == address
    assert found.account.balance >= 1_234
    assert found.cosigned_at_s
    with pytest.raises(ProblemError) as caught:
        network.client("HK", key_of("shop-HK")).balance_proof(address)
    assert caught.value.code == "READ_FORBIDDEN"


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_commands(network: Network, settled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands cosign, write a receipt and a balance proof, and check them; a changed byte ends with code 5."""
    folder = ["--dir", str(network.folder.root)]
    assert run(["cosign", *folder]) == ExitCode.OK
    assert f"{NETWORK}/hk" in capsys.readouterr().out
    file = tmp_path / "receipt"
    assert run(["receipt", settled, "--out", str(file), *folder]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert f"payment {settled}" in shown
    assert "SETTLED, window 1: proven" in shown
    assert run(["verify-receipt", str(file), "--json", *folder]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["uetr"], found["is_state_proven"]) == (settled, True)
    assert [part["ledger"] for part in found["parts"]] == ["HK", "SH"]
    genesis = ["--genesis", str(network.folder.hk / "genesis.json")]
    assert run(["verify-receipt", str(file), *genesis]) == ExitCode.OK
    assert "taken from" not in capsys.readouterr().out
    export = exported(network, tmp_path, "HK")
    assert run(["verify-receipt", str(file), "--genesis", str(export)]) == ExitCode.OK
    line = f"genesis HK {network.genesis_hash('HK').hex()} (taken from {export}: compare it with one from elsewhere)"
    assert line in capsys.readouterr().out.splitlines()
    assert run(["verify-receipt", str(file), "--genesis", str(export), "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["genesis_hashes"] == {"HK": network.genesis_hash("HK").hex()}
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    assert run(["verify-receipt", str(file), *genesis]) == ExitCode.INTEGRITY
    assert run(["receipt", network.customer("SH").new_id(), *folder]) == ExitCode.REFUSED


def test_the_commands_on_balances(
    network: Network, settled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A balance proof is written by its command and checked by the same command as receipts."""
    folder, file = ["--dir", str(network.folder.root)], tmp_path / "proof"
    address = network.wallets["SH"]["a"]
    assert run(["balance-proof", address, "--out", str(file), *folder]) == ExitCode.OK
    assert address in capsys.readouterr().out
    assert run(["verify-receipt", str(file), "--json", *folder]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["asset"] == "CNY"
    assert run(["verify-receipt", str(file), *folder]) == ExitCode.OK
    file.write_bytes(file.read_bytes()[:-1])
    assert run(["verify-receipt", str(file), *folder]) == ExitCode.INTEGRITY


def test_the_command_on_certificates(
    network: Network, settled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate comes with its anchors in both journals, and is proven from its file, with them or without."""
    folder, file = ["--dir", str(network.folder.root)], tmp_path / "certificate"
    assert run(["certificate", "1", "--out", str(file), *folder]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert all(f"{ledger}: decision at " in shown for ledger in LEDGERS)
    assert "not cosigned" not in shown
    assert run(["certificate", "--check", str(file), *folder]) == ExitCode.OK
    bare = network.client("HK", network.keys.auditor).certificate(1)
    (tmp_path / "bare").write_bytes(bare)
    assert bare in file.read_bytes()
    assert run(["certificate", "--check", str(tmp_path / "bare"), *folder]) == ExitCode.OK
    nowhere = ["--dir", str(tmp_path / "nowhere")]
    both = [word for ledger in LEDGERS for word in ("--genesis", str(exported(network, tmp_path, ledger)))]
    capsys.readouterr()
    assert run(["certificate", "--check", str(file), *both, *nowhere]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("genesis ")] == list(LEDGERS)
    assert run(["certificate", "--check", str(file), *both[:2], *nowhere]) == ExitCode.USAGE
    assert run(["certificate", "--check", str(file), *nowhere]) == ExitCode.REFUSED
    assert "GENESIS_MISSING" in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert run(["certificate", "--check", str(file), *folder]) == ExitCode.INTEGRITY


def exported(network: Network, folder: Path, ledger: str) -> Path:
    """Write a ledger's export."""
    path = folder / f"{ledger}.hgx"
    network.client(ledger, network.keys.auditor).export_to(path)
    return path


def test_an_open_window_has_no_anchor(network: Network, settled: str) -> None:
    """A window that is not settled has no anchor, and only those who may read certificates may read one."""
    with pytest.raises(ProblemError) as caught:
        network.client("SH", network.keys.auditor).anchor(2)
    assert caught.value.code == "CERTIFICATE_MISSING"
    with pytest.raises(ProblemError) as caught:
        network.customer("SH").anchor(1)
    assert caught.value.code == "READ_FORBIDDEN"


# --- nodes that are opened again --------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Network]:
    """A running network for one test alone."""
    with running_network(tmp_path / "net") as running:
        yield running


def restarted(network: Network, ledger: str) -> None:
    """End a node and open it from its folder."""
    network.servers[ledger].stop()
    network.start_node(ledger)


def test_a_cosigner_that_was_restarted_goes_on(own: Network) -> None:
    """Nodes that were ended and opened again keep what they have cosigned, and cosign and settle as before."""
    across(own, 11)
    own.settle()
    before = {ledger: opened(own, ledger).checkpoint for ledger in LEDGERS}
    for ledger in LEDGERS:
        restarted(own, ledger)
        (own.folder.node(ledger) / TILES_FILE).stat()
    assert {ledger: opened(own, ledger).checkpoint for ledger in LEDGERS} == before
    uetr = across(own, 12)
    assert own.settle()["state"] == "SETTLED"
    assert all(opened(own, ledger).checkpoint.size > before[ledger].size for ledger in LEDGERS)
    assert verify(own.customer("SH").receipt(uetr), genesis_of(own, "SH")).is_status_proven


def test_a_node_that_lost_its_tiles(own: Network) -> None:
    """A node whose tiles were lost or damaged makes them again and gives the same proofs."""
    across(own, 11)
    client = own.client("SH", None)
    before = client.inclusion_proof(3)
    own.servers["SH"].stop()
    (own.folder.sh / TILES_FILE).write_bytes(b"nonsense")
    own.start_node("SH")
    assert client.inclusion_proof(3, size=before["size"]) == before


JOURNAL = ("journal.db", "journal.db-wal", "journal.db-shm")


def backed_up(network: Network, to: Path, names: tuple[str, ...]) -> None:
    """End Shanghai's node, copy files of its folder, and open it again."""
    network.servers["SH"].stop()
    to.mkdir()
    for name in names:
        if (network.folder.sh / name).exists():
            shutil.copy(network.folder.sh / name, to / name)
    network.start_node("SH")


def restored(network: Network, source: Path, names: tuple[str, ...]) -> None:
    """End Shanghai's node and put files back as they were copied."""
    network.servers["SH"].stop()
    for name in names:
        (network.folder.sh / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copy(source / name, network.folder.sh / name)


def test_a_journal_restored_from_an_older_copy_does_not_open(own: Network, tmp_path: Path) -> None:
    """A node whose database alone was put back from an older copy refuses to start."""
    across(own, 11)
    own.settle()
    backed_up(own, tmp_path / "copy", JOURNAL)
    across(own, 12)
    own.settle()
    restored(own, tmp_path / "copy", JOURNAL)
    with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
        Node.open(own.folder.sh, own.runtime)
    own.servers["SH"].thread.join(0)


WHOLE = (*JOURNAL, KEPT_FILE, COSIGNED_FILE, TILES_FILE)


def older_copy(network: Network, to: Path) -> None:
    """Put Shanghai's folder back as it was before the last window was cosigned, with its node ended."""
    across(network, 11)
    network.settle()
    backed_up(network, to, WHOLE)
    across(network, 12)
    network.settle()
    restored(network, to, WHOLE)


def inside(network: Network) -> None:
    """Pay inside Shanghai."""
    network.client("SH", key_of("customer-SH"), try_count=1).pay(
        debtor=network.wallets["SH"]["a"], creditor=network.wallets["SH"]["b"], asset="CNY", amount=1
    )


def test_a_node_restored_whole_does_not_start(own: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node put back as a whole from an older copy asks its cosigner when it starts, and does not."""
    older_copy(own, tmp_path / "copy")
    assert run(["node", "sh", "--dir", str(own.folder.root)]) == ExitCode.INTEGRITY
    assert capsys.readouterr().err.splitlines()[-1].startswith("hugang: HISTORY_LOST: ")
    node = Node.open(own.folder.sh, own.runtime)
    with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
        asyncio.run(node.start())
    assert not node.is_serving
    assert own.client("HK", None).health()["status"] == "ok"


def test_a_node_restored_whole_stops_when_it_hears_of_it(own: Network, tmp_path: Path) -> None:
    """With its cosigner away such a node takes payments, and writes nothing more once the cosigner is back."""
    older_copy(own, tmp_path / "copy")
    own.servers["HK"].stop()
    own.start_node("SH")
    inside(own)
    own.start_node("HK")
    assert stopped(own)
    with pytest.raises(ProblemError) as caught:
        inside(own)
    assert caught.value.code == "NODE_STOPPED"
    assert own.client("HK", None).health()["status"] == "ok"


def test_a_node_restored_whole_stops_at_the_exchange(
    own: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a node stops too when its cosigner's checkpoint is carried to it, even if it never asks itself."""
    older_copy(own, tmp_path / "copy")
    monkeypatch.setattr(peer, "ask", answered)
    own.start_node("SH")
    inside(own)
    known = own.http.get(own.urls["HK"] + "/v1/checkpoints/cosigned")
    assert carry(own, "SH", "/v1/checkpoints/offers", known.content, TEXT).status_code == 500
    assert stopped(own)


async def answered(*_: object) -> bool:
    """Stand for a question that was answered with nothing new."""
    return True


def stopped(network: Network) -> bool:
    """Wait until Shanghai's node says that it has stopped."""
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        if network.http.get(network.urls["SH"] + "/v1/health").status_code == 503:
            return True
        time.sleep(0.05)
    return False
