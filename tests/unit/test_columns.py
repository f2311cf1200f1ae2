"""Book transfers in columns: their form, who may send them, what they do."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import columns, line, posting, sections, writer
from ledger.errors import Forbidden, MalformedInput
from ledger.transfers import REVERSAL_COUNT_MAX, TRANSFER, Flag, Result, Transfers, id_halves, transfers
from settlement import columns as book_transfers
from settlement.legs import Leg, leg_id
from settlement.views import PaymentStatus
from tests.settlement_fixture import SECOND, Node, World

TOPIC = "/v1/transfers"
OPTIONAL = ("related_hi", "related_lo", "timeout_s", "minimum", "value_day")


def funded() -> Node:
    """Give Shanghai with money on its banks' positions and in wallets that the bank ALPHA itself owns."""
    node = World.funded().sh
    node.post("ALPHA", "/v1/accounts", {"accounts": [{"owner": "ALPHA", "asset": "CNY"}] * 2})
    return node


def moves(node: Node, *amounts: int, flags: int = 0, first_id: int = 1) -> Transfers:
    """Give transfers from ALPHA's position into its own wallet."""
    commands = transfers(len(amounts))
    commands["id_lo"] = np.arange(first_id, first_id + len(amounts))
    commands["amount"] = amounts
    commands["debit"] = node.account("POSITION.ALPHA")
    commands["credit"] = node.machine.state.account_count
    commands["flags"] = flags
    return commands


def end(hold: int, *, flag: Flag, identifier: int, amount: int = 0) -> Transfers:
    """Give the command that ends a hold."""
    commands = transfers(1)
    commands["id_lo"], commands["related_lo"], commands["flags"] = identifier, hold, flag
    commands["amount"] = amount
    return commands


def test_transfers_are_posted_in_order() -> None:
    """Every item becomes a record, and the money has moved."""
    node = funded()
    records = node.post("ALPHA", TOPIC, columns.encode(moves(node, 5, 7)))

    assert records["result"].tolist() == [Result.OK, Result.OK]
    assert node.machine.state.balance(node.machine.state.account_count) == 12


def test_used_id_is_refused_and_moves_nothing() -> None:
    """An id is unique for ever, within one message and across messages."""
    node = funded()
    node.post("ALPHA", TOPIC, columns.encode(moves(node, 5)))
    before = node.machine.state.money_digest()
    records = node.post("ALPHA", TOPIC, columns.encode(moves(node, 5)))

    assert records["result"].tolist() == [Result.ID_EXISTS]
    assert node.machine.state.money_digest() == before


def test_hold_is_posted_in_part() -> None:
    """A post takes what it asks for and releases the rest."""
    node = funded()
    node.post("ALPHA", TOPIC, columns.encode(moves(node, 50, flags=Flag.PENDING)))
    records = node.post("ALPHA", TOPIC, columns.encode(end(1, flag=Flag.POST, identifier=2, amount=20)))

    assert records["result"].tolist() == [Result.OK]
    account = node.machine.state.account(node.machine.state.account_count)
    assert (account.balance, account.credits_pending) == (20, 0)


def test_hold_expires_at_the_head_of_a_block() -> None:
    """A hold whose time is over is gone before the next message is looked at."""
    node = funded()
    commands = moves(node, 50, flags=Flag.PENDING)
    commands["timeout_s"] = 2
    node.post("ALPHA", TOPIC, columns.encode(commands))
    late = node.machine.timestamp_ns + 3 * SECOND
    records = node.post("ALPHA", TOPIC, columns.encode(end(1, flag=Flag.VOID, identifier=2)), at_ns=late)

    assert records["flags"].tolist() == [Flag.EXPIRE, Flag.VOID]
    assert records["result"].tolist() == [Result.OK, Result.HOLD_EXPIRED]


def test_more_holds_than_a_block_can_hold_expire_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due beyond the bound of one block can no longer be posted and expires in the next one, also on replay."""
    monkeypatch.setattr(posting, "DUE_COUNT_MAX", 2)
    node = funded()
    commands = moves(node, 5, 5, 5, flags=Flag.PENDING)
    commands["timeout_s"] = 2
    node.post("ALPHA", TOPIC, columns.encode(commands))
    late = node.machine.timestamp_ns + 3 * SECOND
    first = node.post("ALPHA", TOPIC, columns.encode(end(3, flag=Flag.POST, identifier=4)), at_ns=late)
    second = node.post("ALPHA", TOPIC, columns.encode(end(3, flag=Flag.POST, identifier=5)), at_ns=late + 1)

    assert first["flags"].tolist() == [Flag.EXPIRE, Flag.EXPIRE, Flag.POST]
    assert first["result"].tolist() == [Result.OK, Result.OK, Result.HOLD_EXPIRED]
    assert second["flags"].tolist() == [Flag.EXPIRE, Flag.POST]
    assert node.machine.state.account(node.machine.state.account_count).credits_pending == 0
    assert node.replayed().machine.frontier.root() == node.machine.frontier.root()


def test_expiries_and_transfers_of_one_block_fit_the_format() -> None:
    """The most holds that expire at once and the densest messages of a block stay within its count and its size."""
    records = posting.DUE_COUNT_MAX + line.BATCH_SIZE_MAX // 32 + writer.BATCH_LIMIT

    assert records < sections.TRANSFER_COUNT_MAX
    assert records * TRANSFER.itemsize + 2 * line.BATCH_SIZE_MAX < sections.BODY_SIZE_MAX


def test_chain_fails_as_a_whole() -> None:
    """One refused member takes its chain with it."""
    node = funded()
    commands = moves(node, 5, 2**62, flags=0)
    commands["flags"][0] = Flag.LINKED
    before = node.machine.state.money_digest()
    records = node.post("ALPHA", TOPIC, columns.encode(commands))

    assert records["result"].tolist() == [Result.LINKED_FAILED, Result.DEBIT_LIMIT]
    assert node.machine.state.money_digest() == before


def test_key_debiting_somebody_elses_account_is_refused_whole() -> None:
    """One foreign account among many refuses the message."""
    node = funded()
    commands = moves(node, 5, 7)
    commands["debit"][1] = node.account("POSITION.BETA")

    assert node.refusal("ALPHA", TOPIC, columns.encode(commands)).code == "NOT_OWNER"


def test_unknown_debtor_is_refused_like_a_foreign_one() -> None:
    """Asking tells nobody which accounts exist."""
    node = funded()
    commands = moves(node, 5)
    commands["debit"] = 2**32 - 1

    assert node.refusal("ALPHA", TOPIC, columns.encode(commands)).code == "NOT_OWNER"


def test_unknown_payee_is_the_kernels_to_refuse() -> None:
    """A payee that does not exist is a result of the item."""
    node = funded()
    commands = moves(node, 5)
    commands["credit"] = 2**32 - 1

    assert node.post("ALPHA", TOPIC, columns.encode(commands))["result"].tolist() == [Result.CREDIT_NOT_FOUND]


@pytest.mark.parametrize("name", ["SETTLE.ALPHA", "FUNDS.ALPHA", "CLEARING.ALPHA"])
def test_settlement_accounts_cannot_be_debited(name: str) -> None:
    """What settles moves only as a consequence, even for its owner."""
    node = funded()
    commands = moves(node, 5)
    commands["debit"] = node.account(name)

    assert node.refusal("ALPHA", TOPIC, columns.encode(commands)).code == "NOT_OWNER"


def test_other_book_is_refused() -> None:
    """Money does not leave a book without settlement."""
    node = funded()
    commands = moves(node, 5)
    commands["credit"] = node.account("POSITION.BETA")

    assert node.refusal("ALPHA", TOPIC, columns.encode(commands)).code == "OTHER_BOOK"


def test_hold_of_another_party_is_not_found() -> None:
    """Ids are scoped to their signer: nobody ends what somebody else holds."""
    node = funded()
    node.post("ALPHA", TOPIC, columns.encode(moves(node, 50, flags=Flag.PENDING)))
    records = node.post("BETA", TOPIC, columns.encode(end(1, flag=Flag.VOID, identifier=2)))

    assert records["result"].tolist() == [Result.HOLD_NOT_FOUND]


@pytest.mark.parametrize("flag", [Flag.EXPIRE, Flag.BOUND, 2**11, 2**15])
def test_flags_of_the_node_are_refused(flag: int) -> None:
    """Only the node itself expires and binds."""
    node = funded()

    assert node_code(node, columns.encode(moves(node, 5, flags=flag))) == "COLUMNS_FLAGS"


@pytest.mark.parametrize("flag", [Flag.POST, Flag.VOID])
@pytest.mark.parametrize("leg", [Leg.PAYER, Leg.PROVIDER_RECEIVES, Leg.PROVIDER_PAYS, Leg.QUOTE])
def test_legs_of_a_payment_are_not_ended_one_by_one(flag: Flag, leg: Leg) -> None:
    """Whoever pays cannot take back its own leg and leave the provider's: the item is refused."""
    world = World.everywhere()
    quote = world.quote(sell="CNY", maximum=1_000_00, buy="HKD", rate="0.92220000")
    payment = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 100_00, "HKD", creditor_asset="CNY", quote=quote)
    world.hk.pay("dan", payment)
    commands = end(0, flag=flag, identifier=1)
    commands["related_hi"], commands["related_lo"] = id_halves(leg_id(uuid.UUID(payment["uetr"]).int, leg))

    assert world.hk.post("dan", TOPIC, columns.encode(commands))["result"].tolist() == [Result.HOLD_IN_WINDOW]
    assert world.settle()
    world.check()


def test_a_used_up_id_only_keeps_its_owner_from_cancelling() -> None:
    """A party that has taken the ids of its own cancellation cannot cancel, and nothing else happens."""
    world = World.everywhere()
    payment = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 1_00)
    world.hk.pay("dan", payment)
    world.hk.post("GAMMA", "/v1/accounts", {"accounts": [{"owner": "dan", "asset": "CNY"}]})
    taken = transfers(1)
    taken["id_hi"], taken["id_lo"] = id_halves(leg_id(uuid.UUID(payment["uetr"]).int, Leg.CANCELLATION))
    taken["amount"], taken["debit"] = 1, world.hk.account("WALLET.dan")
    taken["credit"] = world.hk.machine.state.account_count
    world.hk.post("dan", TOPIC, columns.encode(taken))

    records = world.hk.post("dan", "/v1/cancellations", {"uetr": payment["uetr"]})

    assert records["result"].tolist() == [Result.ID_EXISTS]
    assert world.settle()
    assert world.hk.view("dan", payment).status is PaymentStatus.SETTLED
    world.check()


# --- reversals, conditions, groups ------------------------------------------------------------------------------------


def test_a_reversal_takes_money_back() -> None:
    """The signer reverses its own transfer, in parts and in another message, and no more than it moved."""
    node = funded()
    node.post("ALPHA", TOPIC, columns.encode(moves(node, 50)))
    back = moves(node, 20, 0, 1, flags=Flag.REVERSAL, first_id=2)
    back["debit"], back["credit"] = back["credit"].copy(), back["debit"].copy()
    back["related_lo"] = 1
    records = node.post("ALPHA", TOPIC, columns.encode(back))

    assert records["result"].tolist() == [Result.OK, Result.OK, Result.REVERSAL_EXCEEDED]
    assert records["amount"].tolist() == [20, 30, 1]
    assert node.machine.state.balance(node.machine.state.account_count) == 0


def test_a_reversal_debits_only_what_is_the_signers() -> None:
    """Whoever did not get the money cannot be made to give it back by a stranger."""
    world = World.funded()
    node = world.sh
    node.post("ALPHA", "/v1/accounts", {"accounts": [{"owner": "ALPHA", "asset": "CNY"}]})
    sent = moves(node, 5)
    sent["credit"] = node.account("WALLET.ann")
    node.post("ALPHA", TOPIC, columns.encode(sent))
    back = moves(node, 5, flags=Flag.REVERSAL, first_id=2)
    back["debit"], back["credit"], back["related_lo"] = sent["credit"], sent["debit"], 1

    with pytest.raises(Forbidden, match="NOT_OWNER"):
        node.post("ALPHA", TOPIC, columns.encode(back))


def test_a_message_has_a_limited_number_of_reversals() -> None:
    """As many as may have to be read from the journal are taken, one more is refused."""
    commands = transfers(REVERSAL_COUNT_MAX + 1)
    commands["id_lo"] = np.arange(len(commands))
    commands["flags"] = Flag.REVERSAL
    assert len(book_transfers.decode(columns.encode(commands[:-1]))) == REVERSAL_COUNT_MAX

    with pytest.raises(MalformedInput, match="COLUMNS_REVERSALS"):
        book_transfers.decode(columns.encode(commands))


def test_a_group_of_holds_ends_by_one_command() -> None:
    """Two linked holds with the group flag are posted together."""
    node = funded()
    holds = moves(node, 5, 7, flags=Flag.PENDING | Flag.GROUP)
    holds["flags"][0] |= np.uint16(Flag.LINKED)
    assert set(node.post("ALPHA", TOPIC, columns.encode(holds))["result"].tolist()) == {Result.OK}
    whole = end(1, flag=Flag.POST | Flag.GROUP, identifier=9)
    assert node.post("ALPHA", TOPIC, columns.encode(whole))["result"].tolist() == [Result.OK]

    assert node.machine.state.balance(node.machine.state.account_count) == 12


def test_minimum_and_value_day_are_recorded_and_balances_fill_up() -> None:
    """A condition is checked, a value day kept, and a balancing transfer moves what there is."""
    node = funded()
    position = node.account("POSITION.ALPHA")
    there = node.machine.state.account(position).available
    commands = moves(node, 1, 1, 0, flags=Flag.MIN_AVAILABLE)
    commands["minimum"] = [there, there - 1, 0]
    commands["value_day"] = [0, 20_000, 0]
    commands["flags"][2] |= np.uint16(Flag.BALANCING_DEBIT)
    records = node.post("ALPHA", TOPIC, columns.encode(commands))

    assert records["result"].tolist() == [Result.MIN_AVAILABLE, Result.OK, Result.OK]
    assert records["value_day"].tolist() == [0, 20_000, 0]
    assert records["amount"].tolist() == [1, 1, there - 1]
    assert node.machine.state.account(position).available == 0


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, b"HGT0", "COLUMNS_MALFORMED"),
        (4, b"\x00\x00\x00\x00", "COLUMNS_COUNT"),
        (4, b"\x01\x00\x01\x00", "COLUMNS_COUNT"),
        (4, b"\x03\x00\x00\x00", "COLUMNS_MALFORMED"),
        (8, b"\x08\x00\x00\x00", "COLUMNS_MALFORMED"),
        (8, b"\x20\x00\x00\x00", "COLUMNS_MALFORMED"),
        (12, b"\x00\x00\x01\x00", "COLUMNS_MALFORMED"),
        (12, b"SH\x00\x00", "COLUMNS_MALFORMED"),
    ],
)
def test_bent_head_is_refused(offset: int, value: bytes, code: str) -> None:
    """Magic, count, mask and the zero word have one meaning each."""
    node = funded()
    body = bytearray(columns.encode(moves(node, 5, 7)))
    body[offset : offset + 4] = value

    assert node_code(node, bytes(body)) == code


def node_code(node: Node, body: bytes) -> str:
    """Give the code with which a body is refused before anything else."""
    with pytest.raises(MalformedInput) as caught:
        node.settlement.decode(node.machine.admit(node.request("ALPHA", TOPIC, body), at_ns=None).envelope, body)
    return caught.value.code


@given(st.binary(max_size=200))
def test_any_bytes_decode_canonically_or_not_at_all(data: bytes) -> None:
    """Whatever decodes stands for one body only."""
    body = columns.MAGIC + data
    try:
        commands = columns.decode(body)
    except MalformedInput:
        return
    assert columns.encode(commands) == body


def test_the_example_of_the_page() -> None:
    """The bytes that docs/formats.md shows are the ones we write."""
    commands = transfers(1)
    commands["id_lo"], commands["amount"], commands["debit"], commands["credit"] = 1, 5, 9, 12
    page = Path(__file__).parents[2].joinpath("docs", "formats.md").read_text(encoding="utf-8")
    shown = page.partition("## Commands in columns")[2].partition("```text\n")[2].partition("```")[0]

    assert columns.encode(commands).hex() == "".join(shown.split())


def test_idle_column_is_refused() -> None:
    """A column of zeros is left out, so that what was signed has one reading."""
    body = columns.encode(moves(funded(), 5))
    idle = body[:8] + b"\x01\x00\x00\x00" + body[12:] + b"\x00\x00"

    with pytest.raises(MalformedInput):
        columns.decode(idle)


@given(st.lists(st.binary(min_size=TRANSFER.itemsize, max_size=TRANSFER.itemsize), min_size=1, max_size=5))
def test_what_is_encoded_is_read_back(rows: list[bytes]) -> None:
    """decode(encode(x)) is x in every column that a body has."""
    commands = np.frombuffer(b"".join(rows), TRANSFER).copy()
    commands["flags"] &= np.uint16(sum(Flag)) & ~np.uint16(Flag.EXPIRE | Flag.BOUND)
    again = columns.decode(columns.encode(commands))
    for name in (*("id_hi", "id_lo", "amount", "debit", "credit", "flags"), *OPTIONAL):
        assert np.array_equal(again[name], commands[name])
