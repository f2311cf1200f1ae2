"""What a process reads from its folder: settings, genesis documents and the private key.

``init_network`` lays a whole network out in one folder, and says here what belongs to whom::

    FOLDER/sh/         node.json  genesis.json  node.pem       the Shanghai node; its journal comes to lie here too
    FOLDER/hk/         node.json  genesis.json  node.pem       the Hong Kong node
    FOLDER/operator/   operator.json  genesis-sh.json  genesis-hk.json  settlement.pem
    FOLDER/keys/       registrar-sh.pem  registrar-hk.pem  pboc.pem  hkma.pem  auditor.pem

File names in a settings file are relative to the folder it lies in, so that a folder can be moved as a whole. A private
key is readable by its owner alone, and is refused when it is not.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger import genesis as genesis_documents
from ledger.errors import Conflict, MalformedInput
from ledger.genesis import Genesis, GenesisAsset, GenesisParty
from ledger.messages import public_bytes
from ledger.parties import Role
from ledger.runtime import Runtime

__all__ = [
    "LEDGERS",
    "KeyRing",
    "Limits",
    "NetworkFolder",
    "NodeConfig",
    "OperatorConfig",
    "Ports",
    "init_network",
    "load_genesis",
    "load_key",
    "load_node_config",
    "load_operator_config",
    "network_folder",
    "save_key",
]

LEDGERS = ("SH", "HK")
CONFIG_SIZE_MAX = 2**20
KEY_SIZE_MAX = 4096
NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
NODE_FILE = "node.json"
OPERATOR_FILE = "operator.json"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
Size = Annotated[int, msgspec.Meta(ge=1024, le=2**30)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=3600)]

FileName = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,255}\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://[^\x00-\x20/?#@]+/?\Z", max_length=255)]
Host = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z.:-]{1,253}\Z")]

Config = TypeVar("Config", bound=msgspec.Struct)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a process takes on at most. Sizes are bytes; every name carries its unit."""

    body_size_max: Size = 64 * 2**10
    """One request that is not a batch."""
    batch_size_max: Size = 16 * 2**20
    statements_size_max: Size = 128 * 2**20
    """The statements of one delivery between the nodes, and the answer to it."""
    header_size_max: Size = 16 * 2**10
    """All headers of one request."""
    request_count_max: Count = 2048
    """Requests under way at once; one more is answered with 503."""
    body_time_s_max: Seconds = 30
    """How long a sender may take over one body."""
    page_count_max: Count = 1000
    """Items on one page of a list."""
    page_count: Count = 100
    """Items on one page when the reader names no number."""
    retry_after_s: Seconds = 1
    """What a refused sender is told to wait."""
    peer_time_s_max: Seconds = 120
    """How long one exchange with another node may take."""


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one node, as they stand in ``node.json``."""

    ledger: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]
    host: Host = "127.0.0.1"
    port: Port
    authorities: tuple[str, ...] = ()
    """Further names, with port, under which clients address this node: behind a proxy or a host name."""
    peer_url: Url
    genesis_file: FileName = "genesis.json"
    key_file: FileName = "node.pem"
    database: Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f]*\Z", max_length=1024)] = "journal.db"
    """The file of the journal, or the URL of a PostgreSQL database; see docs/stores.md."""
    snapshot_interval: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 2**22
    """Positions of the journal between two snapshots, which make a start quick; zero for none. See docs/stores.md."""
    projection_interval_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 0
    """Bring the SQL tables beside the journal up to date this often; zero for only when ``hugang project`` does."""
    limits: Limits = Limits()


class OperatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the settlement operator, as they stand in ``operator.json``; it has no database."""

    host: Host = "127.0.0.1"
    port: Port
    authorities: tuple[str, ...] = ()
    sh_url: Url
    hk_url: Url
    sh_genesis_file: FileName = "genesis-sh.json"
    hk_genesis_file: FileName = "genesis-hk.json"
    key_file: FileName = "settlement.pem"
    cycle_interval_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 0
    """Start a cycle by itself this often; zero for only when asked."""
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of a network's three processes."""

    sh: int = 8701
    hk: int = 8702
    operator: int = 8700


@dataclass(frozen=True, slots=True)
class NetworkFolder:
    """Where everything of one network lies."""

    root: Path

    @property
    def sh(self) -> Path:
        """Folder of the Shanghai node."""
        return self.root / "sh"

    @property
    def hk(self) -> Path:
        """Folder of the Hong Kong node."""
        return self.root / "hk"

    @property
    def operator(self) -> Path:
        """Folder of the settlement operator."""
        return self.root / "operator"

    def node(self, ledger: str) -> Path:
        """Folder of the node of ``ledger``."""
        return self.root / ledger.lower()

    def key(self, name: str) -> Path:
        """File of a private key of ``KeyRing`` by its field's name."""
        places = {
            "node_sh": self.sh / "node.pem",
            "node_hk": self.hk / "node.pem",
            "settlement": self.operator / "settlement.pem",
        }
        return places.get(name, self.root / "keys" / f"{name.replace('_', '-')}.pem")

    def keys(self) -> KeyRing:
        """Read all private keys that the network was made with; for demonstrations, where one person plays everybody.

        Raises:
            MalformedInput: one of them cannot be used.
        """
        return KeyRing(**{name: load_key(self.key(name)) for name in KeyRing.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The private keys of everybody whom the genesis documents name."""

    node_sh: Ed25519PrivateKey
    node_hk: Ed25519PrivateKey
    settlement: Ed25519PrivateKey
    registrar_sh: Ed25519PrivateKey
    registrar_hk: Ed25519PrivateKey
    pboc: Ed25519PrivateKey
    hkma: Ed25519PrivateKey
    auditor: Ed25519PrivateKey


def network_folder(folder: Path) -> NetworkFolder:
    """Name the parts of a network's folder."""
    return NetworkFolder(folder)


def init_network(
    folder: Path,
    runtime: Runtime,
    network: str | None = None,
    *,
    host: str = "127.0.0.1",
    ports: Ports | None = None,
    cycle_interval_s: int = 0,
    test_clock: bool = False,
) -> NetworkFolder:
    """Make keys, both genesis documents and the settings of two nodes and the settlement operator.

    Args:
        folder: made if it is not there; must not hold a network already.
        runtime: gives randomness and the instant of genesis.
        network: the network's name, lower case; by default a random one.
        host: where all three listen.
        ports: on which ports; by default those of ``Ports``.
        cycle_interval_s: how often the operator settles by itself; zero for only when asked.
        test_clock: whether the ledgers' time may be moved on, for ever.

    Raises:
        Conflict: a network lies there already; nothing of it was touched.
        MalformedInput: the name or a number is not of the form.
    """
    layout = NetworkFolder(folder)
    if any(part.exists() for part in (layout.sh, layout.hk, layout.operator, folder / "keys")):
        raise Conflict("NETWORK_EXISTS", "A network lies in this folder already.", folder=str(folder))
    name = network if network is not None else f"hugang-{runtime.random_bytes(4).hex()}"
    if NETWORK_NAME.fullmatch(name) is None:
        raise MalformedInput("NETWORK_NAME", "A network's name is lower case letters, digits, dots and dashes.")
    where = ports or Ports()
    keys = KeyRing(
        **{key: Ed25519PrivateKey.from_private_bytes(runtime.random_bytes(32)) for key in KeyRing.__dataclass_fields__}
    )
    created_ns = runtime.now_ns()
    documents = {ledger: _genesis(ledger, name, created_ns, keys, test_clock=test_clock) for ledger in LEDGERS}
    urls = {"SH": f"http://{host}:{where.sh}", "HK": f"http://{host}:{where.hk}"}
    nodes = {
        "SH": NodeConfig(ledger="SH", host=host, port=where.sh, peer_url=urls["HK"]),
        "HK": NodeConfig(ledger="HK", host=host, port=where.hk, peer_url=urls["SH"]),
    }
    operator = OperatorConfig(
        host=host, port=where.operator, sh_url=urls["SH"], hk_url=urls["HK"], cycle_interval_s=cycle_interval_s
    )
    for part in (layout.sh, layout.hk, layout.operator, folder / "keys"):
        part.mkdir(parents=True, mode=0o700)
    for ledger, document in documents.items():
        _write(layout.node(ledger) / "genesis.json", document)
        _write(layout.operator / f"genesis-{ledger.lower()}.json", document)
        _write(layout.node(ledger) / NODE_FILE, _pretty(nodes[ledger]))
    _write(layout.operator / OPERATOR_FILE, _pretty(operator))
    for key in KeyRing.__dataclass_fields__:
        save_key(layout.key(key), getattr(keys, key))
    return layout


def load_node_config(folder: Path) -> NodeConfig:
    """Read a node's settings.

    Raises:
        MalformedInput: they are missing or not of the form.
    """
    return _load(folder / NODE_FILE, NodeConfig)


def load_operator_config(folder: Path) -> OperatorConfig:
    """Read the settlement operator's settings.

    Raises:
        MalformedInput: they are missing or not of the form.
    """
    return _load(folder / OPERATOR_FILE, OperatorConfig)


def load_genesis(path: Path) -> Genesis:
    """Read a genesis document.

    Raises:
        MalformedInput: it is missing or not a genesis.
    """
    return genesis_documents.decode(_read(path, genesis_documents.SIZE_MAX))


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key: PEM, PKCS #8, not encrypted, Ed25519, readable by its owner alone.

    Raises:
        MalformedInput: it is missing, open to others, or no such key. No part of the file is shown.
    """
    data = _read(path, KEY_SIZE_MAX)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise MalformedInput(
            "KEY_FILE_OPEN", "The private key is open to others; its mode must be 0600.", file=path.name
        )
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput("KEY_FILE_MALFORMED", "The private key cannot be read.", file=path.name) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise MalformedInput("KEY_FILE_MALFORMED", "The private key is not Ed25519.", file=path.name)
    return key


def save_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a private key so that only its owner can read it; an existing file is never overwritten.

    Raises:
        Conflict: the file exists.
    """
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict("KEY_FILE_EXISTS", "A key file of this name exists already.", file=path.name) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _genesis(ledger: str, network: str, created_ns: int, keys: KeyRing, *, test_clock: bool) -> bytes:
    """Write one ledger's genesis document and read it back, so that nothing is laid out that would not open."""
    document = genesis_documents.encode(
        Genesis(
            format=genesis_documents.FORMAT,
            network=network,
            ledger=ledger,
            created_ns=created_ns,
            test_clock=test_clock,
            assets=(
                GenesisAsset(code="CNY", number=1, scale=2, kind="money", home="SH"),
                GenesisAsset(code="HKD", number=2, scale=2, kind="money", home="HK"),
                GenesisAsset(code="QCNY", number=3, scale=2, kind="memo", home="SH"),
                GenesisAsset(code="QHKD", number=4, scale=2, kind="memo", home="HK"),
            ),
            parties=_parties(ledger, keys),
        )
    )
    genesis_documents.decode(document)
    return document


def _parties(ledger: str, keys: KeyRing) -> tuple[GenesisParty, ...]:
    """Name everybody who exists before the first block: the first six of any network, in this order."""
    registrar = keys.registrar_sh if ledger == "SH" else keys.registrar_hk
    issuer = (
        _party("PBOC", "People's Bank of China (simulated)", Role.ISSUER, keys.pboc, assets=("CNY",))
        if ledger == "SH"
        else _party("HKMA", "Hong Kong Monetary Authority (simulated)", Role.ISSUER, keys.hkma, assets=("HKD",))
    )
    return (
        _party("NODE-SH", "Shanghai node", Role.NODE, keys.node_sh, ledger="SH"),
        _party("NODE-HK", "Hong Kong node", Role.NODE, keys.node_hk, ledger="HK"),
        _party("SETTLEMENT", "Settlement operator", Role.SETTLEMENT, keys.settlement),
        _party("AUDITOR", "Auditor", Role.AUDITOR, keys.auditor),
        _party(f"REGISTRAR-{ledger}", f"Registrar of the {ledger} ledger", Role.REGISTRAR, registrar),
        issuer,
    )


def _party(
    code: str, name: str, role: Role, key: Ed25519PrivateKey, *, ledger: str = "", assets: tuple[str, ...] = ()
) -> GenesisParty:
    return GenesisParty(
        code=code, name=name, roles=(role.value,), public_key=public_bytes(key).hex(), ledger=ledger, assets=assets
    )


def _load(path: Path, kind: type[Config]) -> Config:
    try:
        return msgspec.json.decode(_read(path, CONFIG_SIZE_MAX), type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedInput("CONFIG_MALFORMED", f"The settings cannot be read: {error}", file=path.name) from error


def _read(path: Path, size_max: int) -> bytes:
    """Read a small file whole."""
    try:
        with path.open("rb") as file:
            data = file.read(size_max + 1)
    except OSError as error:
        raise MalformedInput("FILE_UNREADABLE", f"A file cannot be read: {error.strerror}.", file=str(path)) from error
    if len(data) > size_max:
        raise MalformedInput("FILE_UNREADABLE", "A file is larger than it may be.", file=path.name)
    return data


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)


def _pretty(config: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
