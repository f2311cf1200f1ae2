"""Well-formed blocks without a machine: what a store keeps, with contents drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ledger import journal
from ledger.genesis import genesis_hash
from ledger.journal import Block, EncodedBlock
from ledger.machine import Draft, Entry, Link
from ledger.runtime import SECOND_NS
from ledger.store import Store
from ledger.transfers import TRANSFER, Transfers
from tests.ledger_fixture import GENESIS, LEDGER, START_S, private_key, statement


@dataclass
class Blocks:
    """Makes blocks that follow one another."""

    seed: int
    made: list[Block] = field(default_factory=list)

    def make(self, transfer_count: int = 3) -> Block:
        """Make the next block: one note, which owns ``transfer_count`` records of random bytes."""
        height = len(self.made) + 1
        last = self.made[-1] if self.made else None
        first = 0 if last is None else last.header.first_position + last.header.position_count
        random = np.random.default_rng([self.seed, height])
        note = statement("alice", "note", random.bytes(40), serial=height)
        draft = Draft(
            height=height,
            first_position=first,
            timestamp_ns=START_S * SECOND_NS + height,
            expired_count=0,
            entries=(Entry(note, transfer_count),),
            transfers=random_records(random, transfer_count),
            outcomes=(),
        )
        previous_hash = genesis_hash(GENESIS) if last is None else last.hash
        link = Link(previous_hash, first + 1 + transfer_count, random.bytes(32))
        block = journal.seal(draft, link, private_key("node"), ledger=LEDGER)
        self.made.append(block)
        return block


def random_records(random: np.random.Generator, count: int) -> Transfers:
    """Give records whose every byte is random, so that compression finds nothing."""
    return np.frombuffer(random.bytes(count * TRANSFER.itemsize), TRANSFER)


def payment_like_records(random: np.random.Generator, count: int, *, first: int = 0) -> Transfers:
    """Give records that compress as those of plain payments with random ids do."""
    records = np.zeros(count, TRANSFER)
    records["id_hi"], records["id_lo"] = random.integers(0, 2**63, (2, count))
    records["amount"] = random.integers(1, 1_000_000, count)
    records["debit"], records["credit"] = random.integers(1, 10_000, (2, count))
    records["debit_previous"], records["credit_previous"] = random.integers(0, first + count + 1, (2, count))
    records["message"], records["item"], records["party"] = first, np.arange(count), 7
    return records


def stored(store: Store) -> list[EncodedBlock]:
    """Read everything a store has."""
    return list(store.blocks())


def encoded(blocks: list[Block]) -> list[EncodedBlock]:
    """Give the bytes of blocks."""
    return [block.encoded for block in blocks]
