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

__all__ = ["as_auditor", "as_party", "as_settlement", "connect", "loopback", "network_name", "url_of"]


def loopback() -> httpx.HTTPTransport:
    """Give connections for plain HTTP on loopback: no proxy of the environment, and no certificate is trusted."""
    return httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def connect(url: str, key: Ed25519PrivateKey, network: str) -> Client:
    """Open a client of a server on loopback."""
    return Client(url, key, network, transport=loopback())


def url_of(folder: Path, name: str) -> str:
    """Give the address of ``sh``, ``hk`` or ``operator``.

    Raises:
        MalformedInput: the folder holds no network.
    """
    return f"http://127.0.0.1:{getattr(configured_ports(folder), name)}"


def network_name(folder: Path) -> str:
    """Give the network's name from the folder's own genesis, not from what a server says.

    Raises:
        MalformedInput: the folder holds no network.
    """
    return load_genesis(network_folder(folder).sh / "genesis.json").network


def as_party(folder: Path, ledger: str, party: str) -> Client:
    """Open a client of one node that signs for a party whose key lies in the folder."""
    return connect(url_of(folder, ledger.lower()), party_key(folder, party), network_name(folder))


def as_auditor(folder: Path, ledger: str) -> Client:
    """Open a client of one node that may read everything and change nothing."""
    key = load_key(network_folder(folder).key("auditor"))
    return connect(url_of(folder, ledger.lower()), key, network_name(folder))


def as_settlement(folder: Path) -> Client:
    """Open a client of the settlement operator."""
    key = load_key(network_folder(folder).key("settlement"))
    return connect(url_of(folder, "operator"), key, network_name(folder))
