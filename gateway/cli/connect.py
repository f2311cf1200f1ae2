"""How a command reaches the three processes: addresses and keys come from the data folder, and from nowhere else."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.client import Client
from gateway.config import load_genesis, load_key, network_folder
from gateway.names import party_key
from gateway.supervisor import configured_ports
from ledger.genesis import genesis_hash

__all__ = ["as_auditor", "as_party", "as_registrar", "as_settlement", "connect", "hash_of", "loopback", "url_of"]


def loopback() -> httpx.HTTPTransport:
    """Give connections for plain HTTP on loopback: no proxy of the environment, and no certificate is trusted."""
    return httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def connect(folder: Path, name: str, key: Ed25519PrivateKey) -> Client:
    """Open a client of ``sh``, ``hk`` or ``operator`` with a key.

    Raises:
        MalformedInput: the folder holds no network.
    """
    return Client(url_of(folder, name), key, hash_of(folder, name), transport=loopback())


def url_of(folder: Path, name: str) -> str:
    """Give the address of ``sh``, ``hk`` or ``operator``.

    Raises:
        MalformedInput: the folder holds no network.
    """
    return f"http://127.0.0.1:{getattr(configured_ports(folder), name)}"


def hash_of(folder: Path, name: str) -> bytes:
    """Give the genesis hash that requests to ``sh``, ``hk`` or ``operator`` name; the operator takes either ledger's.

    It is that of the folder's own genesis, not what a server says.

    Raises:
        MalformedInput: the folder holds no network.
    """
    layout = network_folder(folder)
    return genesis_hash(load_genesis((layout.hk if name == "hk" else layout.sh) / "genesis.json"))


def as_party(folder: Path, ledger: str, party: str) -> Client:
    """Open a client of one node that signs for a party whose key lies in the folder."""
    return connect(folder, ledger.lower(), party_key(folder, party))


def as_auditor(folder: Path, ledger: str) -> Client:
    """Open a client of one node that may read everything and change nothing."""
    configured_ports(folder)  # a folder that holds no network is said to be none, before a key is missed in it
    return connect(folder, ledger.lower(), load_key(network_folder(folder).key("auditor")))


def as_registrar(folder: Path, ledger: str) -> Client:
    """Open a client of one node that signs for its registrar."""
    configured_ports(folder)  # a folder that holds no network is said to be none, before a key is missed in it
    name = f"registrar_{ledger.lower()}"
    return connect(folder, ledger.lower(), load_key(network_folder(folder).key(name)))


def as_settlement(folder: Path) -> Client:
    """Open a client of the settlement operator."""
    configured_ports(folder)  # a folder that holds no network is said to be none, before a key is missed in it
    return connect(folder, "operator", load_key(network_folder(folder).key("settlement")))
