"""Anchored certificates: the decision stands in both journals, under trees that both nodes have signed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ledger import logs
from ledger.errors import IntegrityFailure, MalformedInput
from settlement import anchors, certificate
from settlement.anchors import Anchored, assemble, gather, is_anchored, make_anchor, verify
from settlement.statements import LEDGERS
from tests.receipt_fixture import COSIGNED_AT_S, PAIR, Journals, journals
from tests.settlement_fixture import NETWORK
from tests.signed_again import signed_again

BOTH = (PAIR["SH"], PAIR["HK"])
WINDOW = 2


@pytest.fixture(scope="module")
def made() -> Journals:
    """Give the journals."""
    return journals()


def bare(made: Journals) -> bytes:
    """Give the window's certificate."""
    return certificate.build(made.world.sh.book.windows[WINDOW].statements)


def anchor(made: Journals, ledger: str, **changes: Any) -> bytes:
    """Give the window's anchor in a ledger, but for some changes."""
    position = made.world.node(ledger).book.windows[WINDOW].settled_position
    usual: dict[str, Any] = {"note": made.note(ledger), "ledger": ledger, "position": position}
    return make_anchor(made.sources[ledger].tiles, **(usual | changes))


def whole(made: Journals) -> bytes:
    """Give the certificate with both anchors."""
    return assemble(bare(made), [anchor(made, ledger) for ledger in LEDGERS])


def refused(data: bytes, code: str) -> None:
    """Verify what must be refused."""
    with pytest.raises(IntegrityFailure) as caught:
        verify(data, BOTH)
    assert caught.value.code.startswith(code)


def test_a_decision_stands_in_both_journals(made: Journals) -> None:
    """An anchored certificate says where each journal holds the decision and who has cosigned its tree."""
    found = verify(whole(made), BOTH)
    assert found.certificate == certificate.verify(bare(made), BOTH)
    assert [view.ledger for view in found.anchors] == list(LEDGERS)
    for view in found.anchors:
        peer = "sh" if view.ledger == "HK" else "hk"
        assert view.position == made.world.node(view.ledger).book.windows[WINDOW].settled_position
        assert (view.tree_size, view.tree_root) == (
            made.machines[view.ledger].frontier.size,
            made.machines[view.ledger].frontier.root(),
        )
        assert view.cosigned_at_s == {f"{NETWORK}/{peer}": COSIGNED_AT_S}


def test_one_anchor_is_enough(made: Journals) -> None:
    """A certificate may be anchored in one journal, and without a cosignature it says so."""
    found: Anchored = verify(assemble(bare(made), [anchor(made, "HK", note=made.note("HK", cosigned=False))]), BOTH)
    assert [(view.ledger, dict(view.cosigned_at_s)) for view in found.anchors] == [("HK", {})]


def test_the_order_does_not_matter(made: Journals) -> None:
    """Anchors given in either order make the same bytes, which are told from a bare certificate."""
    reverse = assemble(bare(made), [anchor(made, ledger) for ledger in reversed(LEDGERS)])
    assert reverse == whole(made)
    assert is_anchored(reverse)
    assert not is_anchored(bare(made))


def test_every_changed_byte_is_refused(made: Journals) -> None:
    """An anchored certificate with any one byte changed, or cut, or with a byte more, is refused."""
    data = whole(made)
    random = np.random.default_rng(17)
    for at, bits in enumerate(random.integers(1, 256, len(data)).tolist()):
        changed = bytearray(data)
        changed[at] ^= bits
        with pytest.raises(IntegrityFailure):
            verify(bytes(changed), BOTH)
    for end in range(0, len(data), 101):
        refused(data[:end], "ANCHOR_MALFORMED")
    refused(data + b"\0", "ANCHOR_MALFORMED")


def test_anchors_of_other_things(made: Journals) -> None:
    """An anchor of another position, another ledger or another tree is refused."""
    position = made.world.sh.book.windows[WINDOW].settled_position
    for other in (
        anchor(made, "SH", position=position - 1),
        anchor(made, "SH", position=made.world.sh.book.windows[1].settled_position),
        make_anchor(made.sources["SH"].tiles, made.note("SH"), "HK", position),
        anchor(made, "SH", note=logs.sign_checkpoint(point_of(made), made.sources["HK"].private_key)),
    ):
        refused(assemble(bare(made), [other]), "ANCHOR_INVALID")
    other_window = certificate.build(made.world.sh.book.windows[3].statements)
    refused(assemble(other_window, [anchor(made, "SH")]), "ANCHOR_INVALID")


def point_of(made: Journals) -> Any:
    """Give the newest checkpoint of Shanghai's log."""
    return logs.open_own(made.note("SH"), PAIR["SH"], "SH").checkpoint


def test_a_certificate_that_does_not_hold(made: Journals) -> None:
    """Anchors make no wrong certificate right."""
    broken = bytearray(bare(made))
    broken[-1] ^= 1
    refused(assemble(bytes(broken), [anchor(made, "SH")]), "CERTIFICATE_")


def test_a_tree_that_does_not_hold_the_decision(made: Journals) -> None:
    """A checkpoint of a tree that ends before the decision makes no anchor."""
    position = made.world.sh.book.windows[WINDOW].settled_position
    with pytest.raises(MalformedInput, match="PROOF_RANGE"):
        anchor(made, "SH", note=made.note("SH", size=position))


def test_what_cannot_be_assembled(made: Journals) -> None:
    """No anchor, two of one ledger, three, and bytes that are none are refused."""
    good = anchor(made, "SH")
    for given in ([], [good, good], [good, anchor(made, "HK"), good], [b"x"], [bytes(anchors.ANCHOR_SIZE_MAX + 1)]):
        with pytest.raises(IntegrityFailure, match="ANCHOR_MALFORMED"):
            assemble(bare(made), given)


def test_other_forms_are_refused(made: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another format, anchors out of order, another spelling, and a document that is too large are refused."""
    name, stored, given = msgspec.msgpack.decode(whole(made))
    for document in (
        ["hugang-anchored/0", stored, given],
        [name, stored, given[::-1]],
        [name, stored, []],
        [name, stored, given, 1],
        [name, stored],
    ):
        refused(msgspec.msgpack.encode(document), "ANCHOR_MALFORMED")
    data = whole(made)
    refused(b"\xdc\x00\x03" + data[1:], "ANCHOR_MALFORMED")
    monkeypatch.setattr(anchors.certificate, "SIZE_MAX", 100)
    monkeypatch.setattr(anchors, "ANCHOR_SIZE_MAX", 100)
    refused(data, "ANCHOR_MALFORMED")


@pytest.mark.parametrize(
    ("name", "anchored"), [("close", ["HK", "SH"]), ("vote/SH/1", ["HK", "SH"]), ("decision/HK/1", ["HK"])]
)
def test_a_journal_anchors_the_decision_that_it_holds(made: Journals, name: str, anchored: list[str]) -> None:
    """Nodes' certificates may differ in signatures; the first is anchored wherever that very decision is journaled."""
    statements = made.world.sh.book.windows[WINDOW].statements
    other = certificate.build(statements | {name: signed_again(statements[name])})
    assert other != bare(made)
    found = verify(gather([(bare(made), anchor(made, "HK")), (other, anchor(made, "SH"))]), BOTH)
    assert [view.ledger for view in found.anchors] == anchored


def test_what_is_no_certificate_is_not_anchored(made: Journals) -> None:
    """A node that states something else than a certificate is told apart before anything is put together."""
    for stated in ([b"", bare(made)], [bare(made), b"\x92"]):
        with pytest.raises(IntegrityFailure, match="CERTIFICATE_MALFORMED"):
            gather([(data, anchor(made, ledger)) for data, ledger in zip(stated, LEDGERS, strict=True)])
