"""The settlement operator's folder: it opens for one network, and names what does not belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway.cli import doctor
from gateway.config import NetworkFolder, init_network, load_genesis
from gateway.operator import Operator
from ledger import genesis
from ledger.errors import MalformedInput
from ledger.runtime import ManualRuntime, SystemRuntime

pytestmark = pytest.mark.anyio


@pytest.fixture
def layout(tmp_path: Path) -> NetworkFolder:
    """Give a network that does not run."""
    return init_network(tmp_path / "network", ManualRuntime(), "hugang-test")


async def opened(layout: NetworkFolder) -> Operator:
    """Open the operator of a folder."""
    async with httpx.AsyncClient() as http:
        return Operator.open(layout.operator, SystemRuntime(), http)


async def test_an_operator_knows_both_ledgers_and_their_network(layout: NetworkFolder) -> None:
    """It takes requests for either ledger by its genesis, and signs statements for the network that they share."""
    documents = {ledger: load_genesis(layout.node(ledger) / "genesis.json") for ledger in ("SH", "HK")}
    operator = await opened(layout)
    assert operator.ledgers == {ledger: genesis.genesis_hash(document) for ledger, document in documents.items()}
    assert {operator.network_hash} == {genesis.network_hash(document) for document in documents.values()}


async def test_an_operator_opens_for_one_network_only(layout: NetworkFolder) -> None:
    """Genesis documents of two networks that share name and keys, or of one ledger twice, are refused."""
    path = layout.operator / "genesis-hk.json"
    document = load_genesis(path)
    path.write_bytes(genesis.encode(msgspec.structs.replace(document, created_ns=document.created_ns + 1)))
    with pytest.raises(MalformedInput, match="CONFIG_MALFORMED"):
        await opened(layout)
    shutil.copy(layout.operator / "genesis-sh.json", path)
    with pytest.raises(MalformedInput, match="CONFIG_MALFORMED"):
        await opened(layout)


async def test_doctor_tells_two_networks_of_one_name_apart(layout: NetworkFolder) -> None:
    """A folder whose two ledgers are of two networks is a fault, though both have one name."""
    folder = layout.sh.parent
    assert {finding.subject: finding.verdict for finding in doctor.findings(folder)}["data folder"] == "ok"
    path = layout.hk / "genesis.json"
    document = load_genesis(path)
    path.write_bytes(genesis.encode(msgspec.structs.replace(document, created_ns=document.created_ns + 1)))
    assert {finding.subject: finding.verdict for finding in doctor.findings(folder)}["data folder"] == "fault"
