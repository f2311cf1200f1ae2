"""docs/api.md says what the servers do: its program pays, and every address stands on it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import save_key
from tests.network_fixture import Network, key_of, running_network

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network for all tests of this file."""
    with running_network(tmp_path_factory.mktemp("network") / "net") as running:
        yield running


def test_the_program_on_the_page_pays(network: Network, tmp_path: Path) -> None:
    """The page's program, which uses nothing of ours, signs a payment that the node settles."""
    program = next(block for block in _blocks() if "load_pem_private_key" in block)
    save_key(tmp_path / "key.pem", key_of("customer-SH"))
    wallets = network.wallets["SH"]
    arguments = [
        network.urls["SH"],
        network.genesis_hash("SH").hex(),
        str(tmp_path / "key.pem"),
        wallets["a"],
        wallets["b"],
    ]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["data"]["state"] == "SETTLED"


def test_every_address_is_on_the_page(network: Network) -> None:
    """Each path of the nodes' and the operator's descriptions is named on the page, and no path that is not there."""
    described = set()
    for server in ("SH", "operator"):
        described |= set(network.http.get(network.urls[server] + "/openapi.json").json()["paths"])
    named = set(re.findall(r"/v1/[a-z/{}-]+[a-z}]", re.sub(r"\?[a-z_]+=[A-Za-z]*", "", PAGE.read_text())))
    assert described - named == set()
    assert named - described == set()


def _blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
