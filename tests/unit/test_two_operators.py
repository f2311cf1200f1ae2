"""Two settlement operators in one genesis: either goes on where the other has stopped, and the ledgers agree."""

from __future__ import annotations

import msgspec
import pytest

from ledger.errors import Forbidden, Unauthenticated
from ledger.genesis import Genesis, GenesisParty, network_hash
from ledger.messages import Message
from settlement import certificate, coordinator, statements
from settlement.book import WindowState
from settlement.reconcile import is_sound, reconcile
from settlement.statements import LEDGERS, CloseBody, digest_of
from tests import cycle_fixture, cycle_steps, settlement_fixture
from tests.cycle_fixture import Pair
from tests.cycle_steps import Steps, refused, world_with_payments
from tests.settlement_fixture import key_of, public_key_of

OPERATORS = ("SETTLEMENT", "SECOND")
ONE_OPERATOR = settlement_fixture.genesis_of


def genesis_of(ledger: str, *, test_clock: bool = False) -> Genesis:
    """Give a ledger's genesis with a second operator."""
    one = ONE_OPERATOR(ledger, test_clock=test_clock)
    second = GenesisParty(code="SECOND", name="SECOND", roles=("settlement",), public_key=public_key_of("SECOND"))
    return msgspec.structs.replace(one, parties=(*one.parties, second))


NETWORK_HASH = network_hash(genesis_of("SH"))


@pytest.fixture(autouse=True)
def _two_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have both ledgers begin with that genesis."""
    for module in (settlement_fixture, cycle_fixture, cycle_steps):
        monkeypatch.setattr(module, "NETWORK_HASH", NETWORK_HASH)
    for module in (settlement_fixture, cycle_fixture):
        monkeypatch.setattr(module, "genesis_of", genesis_of)


def close(operator: str) -> Message:
    """Let an operator close window 1."""
    return statements.sign(CloseBody(1), key=key_of(operator), network_hash=NETWORK_HASH, ledger="--")


async def settle(pair: Pair, operator: str) -> None:
    """Let an operator settle window 1 from wherever it stands."""
    await coordinator.run_cycle(
        pair.ports(), key=key_of(operator), network_hash=NETWORK_HASH, window=1, runtime=pair.nodes["SH"].runtime
    )


@pytest.mark.anyio
@pytest.mark.parametrize("reached", [("SH",), ("HK",), LEDGERS])
@pytest.mark.parametrize("operators", [OPERATORS, OPERATORS[::-1]])
async def test_an_operator_settles_what_another_has_closed(
    operators: tuple[str, str], reached: tuple[str, ...]
) -> None:
    """A window that one operator has closed on one ledger or both does not hold its payments up when it stops there."""
    first, second = operators
    async with Pair.make(world_with_payments()) as pair:
        for ledger in reached:
            await pair.nodes[ledger].conduct.deliver([close(first)])

        await settle(pair, second)
        await settle(pair, first)

        assert {node.book.windows[1].state for node in pair.nodes.values()} == {WindowState.SETTLED}
        assert all(pair.nodes[at].book.windows[1].statements["close"] == close(first) for at in reached)
        assert is_sound(reconcile({at: (node.machine, node.book) for at, node in pair.nodes.items()}))


@pytest.mark.anyio
async def test_a_second_close_is_only_an_operators() -> None:
    """Whoever is no operator gets no answer for a close of a closed window, nor one under a key that counts nowhere."""
    async with Pair.make(world_with_payments()) as pair:
        node = pair.nodes["SH"]
        (listed,) = await node.conduct.deliver([close("SETTLEMENT")])
        assert [digest_of(answer) for answer in await node.conduct.deliver([close("SECOND")])] == [digest_of(listed)]
        with pytest.raises(Forbidden, match="ROLE_MISSING"):
            await node.conduct.deliver([close("NODE-HK")])
        with pytest.raises(Unauthenticated, match="KEY_UNKNOWN"):
            await node.conduct.deliver([close("nobody")])
        assert (await node.conduct.statements(1))["close"] == close("SETTLEMENT")


def test_closes_of_two_operators_are_one_window() -> None:
    """Ledgers that hold closes of two operators have settled the same window, and each certificate proves it."""
    steps = Steps(world_with_payments())
    for ledger, operator in zip(LEDGERS, OPERATORS, strict=True):
        steps.deliver(close(operator), (ledger,))
    assert refused(steps.world.sh, close(OPERATORS[0])) == "STATEMENT_EXISTS"
    steps.list()
    steps.accept()
    steps.propose()
    steps.vote()
    steps.decide()

    assert is_sound(reconcile({at: (node.machine, node.book) for at, node in steps.nodes.items()}))
    pair = (genesis_of("SH"), genesis_of("HK"))
    made = [certificate.verify(certificate.build(steps.window(at).statements), pair) for at in LEDGERS]
    assert made[0] == made[1]
