"""The table of answers: a place for every message, found by party and key, in few bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ledger.answers import Answer, Answers
from ledger.errors import InvariantViolation

KEY = b"sixteen secret bytes"


def answer(position: int, *, height: int, count: int = 2, digest: bytes = b"d" * 16) -> Answer:
    """Give an answer."""
    return Answer(position=position, count=count, height=height, digest=digest)


def filled(message_count: int, *, block_size: int = 4, count: int = 2) -> tuple[Answers, list[Answer]]:
    """Give a table with some messages, each with ``count`` records, and what was entered."""
    answers, made, position = Answers(KEY), [], 0
    for number in range(message_count):
        digest = hashlib.sha256(b"%d" % number).digest()[:16]
        made.append(answer(position, height=1 + number // block_size, count=count, digest=digest))
        answers.begin_block(position if number % block_size == 0 else made[-1 - number % block_size].position)
        answers.add(number % 3, f"key-{number}", made[-1])
        position += 1 + count
    return answers, made


def test_every_answer_is_found_again() -> None:
    """Whatever was entered comes back whole under its party and key, also after the arrays have grown."""
    answers, made = filled(5_000)
    assert [answers.get(number % 3, f"key-{number}") for number in range(5_000)] == made
    assert len(answers) == 5_000
    answers.registry.check()


def test_an_answer_from_the_table_says_that_it_is_repeated() -> None:
    """What the table gives was answered before; a first answer was not, and is equal all the same."""
    answers, made = filled(1)
    found = answers.get(0, "key-0")
    assert found is not None
    assert found.is_repeated
    assert not made[0].is_repeated
    assert found == made[0]


def test_a_key_belongs_to_its_party() -> None:
    """Two parties may use the same key, and a key that nobody has used has no answer."""
    answers = Answers(KEY)
    answers.begin_block(0)
    answers.add(1, "same", answer(0, height=1))
    answers.add(2, "same", answer(3, height=1))
    places = [answers.get(party, "same") for party in (1, 2, 3)]
    assert [place and place.position for place in places] == [0, 3, None]
    assert answers.get(1, "other") is None


def test_a_message_is_entered_once() -> None:
    """The same party and key a second time is a bug, and changes nothing (I8)."""
    answers, made = filled(1)
    with pytest.raises(InvariantViolation, match="I8"):
        answers.add(0, "key-0", answer(9, height=1))
    assert answers.get(0, "key-0") == made[0]
    assert len(answers) == 1


def test_positions_beyond_32_bits() -> None:
    """A position and a count keep all their bits."""
    answers = Answers(KEY)
    answers.begin_block(2**40)
    answers.add(2**32 - 1, "k", answer(2**40 + 5, height=1, count=2**31))
    found = answers.get(2**32 - 1, "k")
    assert found is not None
    assert (found.position, found.count, found.height) == (2**40 + 5, 2**31, 1)


def test_a_message_takes_less_than_60_bytes() -> None:
    """At most 60 bytes a message, all arrays counted; the index of so small a table is well filled here."""
    answers, _ = filled(90_000, block_size=16, count=0)
    assert answers.size_bytes <= 60 * len(answers)


def test_a_block_begins_once() -> None:
    """Saying twice where a block begins is saying it once."""
    answers = Answers(KEY)
    for first in (0, 0, 7, 7, 9):
        answers.begin_block(first)
    assert answers.first_positions.array[: answers.block_count].tolist() == [0, 7, 9]
    for first in np.arange(10, 100):
        answers.begin_block(int(first))
    assert answers.block_count == 93
