"""Who speaks in settlement, and by which keys: the one rule for whoever journals a statement or proves one.

A statement counts only under a key that the genesis names: that of a ledger's node for what it lists, accepts, votes
and decides, that of a settlement operator for closings and proposals. Certificates and receipts are checked from the
genesis and know no others, and these keys are never ended. A further key that such a party has registered signs its
requests; a statement under it would settle a window that nobody could prove.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.errors import Forbidden
from ledger.genesis import Genesis
from ledger.machine import Admitted, Machine
from ledger.messages import Envelope, key_id_of
from ledger.parties import Role
from settlement.statements import LEDGERS, OPERATOR_LEDGER, SPEAKER_IS_OPERATOR, kind_of

__all__ = ["check_speaker", "keys_of", "speaks"]


def keys_of(genesis: Genesis) -> Mapping[str, Mapping[str, bytes]]:
    """Give the keys by speaker (ledger code, or ``--`` for the operator) and key id; either genesis gives the same."""
    keys: dict[str, dict[str, bytes]] = {speaker: {} for speaker in (*LEDGERS, OPERATOR_LEDGER)}
    for party in genesis.parties:
        public_key = bytes.fromhex(party.public_key)
        if party.ledger in LEDGERS:
            keys[party.ledger][key_id_of(public_key)] = public_key
        if Role.SETTLEMENT in party.roles:
            keys[OPERATOR_LEDGER][key_id_of(public_key)] = public_key
    return keys


def speaks(envelope: Envelope, genesis: Genesis) -> bool:
    """Whether the key that a statement names is one by which its speaker speaks."""
    return envelope.key_id in keys_of(genesis).get(envelope.ledger, {})


def check_speaker(machine: Machine, admitted: Admitted) -> None:
    """Let only the operator close and propose, only the node of a ledger speak for it, and only by the genesis's keys.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``SPEAKER_WRONG``, ``SPEAKER_KEY``.
    """
    ledger = admitted.envelope.ledger
    if kind_of(admitted.content) in SPEAKER_IS_OPERATOR:
        if Role.SETTLEMENT not in machine.directory.party(admitted.party).roles:
            raise Forbidden("ROLE_MISSING", "Only the settlement operator says this.", role=Role.SETTLEMENT.value)
    elif ledger not in LEDGERS or _node_of(machine, ledger) != admitted.party:
        raise Forbidden("SPEAKER_WRONG", "Only the node of a ledger speaks for it.", ledger=ledger)
    if not speaks(admitted.envelope, machine.genesis):
        key_id = admitted.envelope.key_id
        raise Forbidden("SPEAKER_KEY", "A statement counts under its speaker's key of the genesis only.", key_id=key_id)


def _node_of(machine: Machine, ledger: str) -> int:
    """Give the number of the party that is the node of a ledger."""
    return machine.directory.by_code(machine.genesis.node(ledger).code).number
