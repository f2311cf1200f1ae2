"""Nobody keeps balances from being sealed and cosigned by asking a node for something at the right moment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ledger.sealed import Sealed, verify_balance
from settlement import cosigning
from tests.cosigning_fixture import Watched
from tests.receipt_fixture import PAIR

pytestmark = pytest.mark.anyio


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    """Two nodes that cosign each other's checkpoints and have not yet."""
    async with Watched.make() as made:
        yield made


async def paid(watched: Watched, amount: int) -> None:
    """Have Ann pay Ben inside Shanghai, so that balances change."""
    world = watched.pair.world
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", amount))
    await watched.pair.catch_up()


def number_of_ann(watched: Watched) -> int:
    """Give the number of Ann's account."""
    return watched.pair.world.sh.account("WALLET.ann")


async def test_an_offer_between_offer_and_keep(watched: Watched) -> None:
    """An offer that somebody asks for while another is being cosigned does not take the seal from that one."""
    log, cosigner = watched.sides["SH"], watched.sides["HK"]
    offer = await log.offer(await cosigner.cosigned())
    await paid(watched, 5_00)
    await log.offer(await cosigner.cosigned())
    await log.keep(await cosigner.cosign(offer))
    found = verify_balance(await log.balance(number_of_ann(watched)), PAIR["SH"])
    assert found.cosigned_at_s
    assert found.tree_size == log.cosigned_size


async def test_an_offer_that_nobody_carries_on(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many accounts, an offer that is asked for and thrown away does not use up the minute's seal."""
    monkeypatch.setattr(cosigning, "SEALED_COUNT_MAX", 3)
    log, cosigner = watched.sides["SH"], watched.sides["HK"]
    await log.offer(await cosigner.cosigned())
    await paid(watched, 5_00)
    assert b"\nbalances " in (await watched.exchange())["SH"]
    found = verify_balance(await log.balance(number_of_ann(watched)), PAIR["SH"])
    assert found.cosigned_at_s
    assert found.account == watched.node("SH").machine.state.account(number_of_ann(watched))


async def test_a_cosigned_checkpoint_handed_over_late(watched: Watched) -> None:
    """A cosigned checkpoint that comes after a larger one does not bring older balances back."""
    log, cosigner = watched.sides["SH"], watched.sides["HK"]
    late = await cosigner.cosign(await log.offer(await cosigner.cosigned()))
    await paid(watched, 5_00)
    await watched.exchange()
    newest = log.cosigned_size
    await log.keep(late)
    found = verify_balance(await log.balance(number_of_ann(watched)), PAIR["SH"])
    assert found.tree_size == newest


async def test_seals_that_wait_are_bounded(watched: Watched) -> None:
    """However many offers are asked for, only the last few are remembered, and the last one can be kept."""
    log, cosigner = watched.sides["SH"], watched.sides["HK"]
    for amount in range(1_00, 8_00, 1_00):
        offer = await log.offer(await cosigner.cosigned())
        await paid(watched, amount)
    assert len(log._offered) == cosigning.OFFERED_COUNT_MAX
    await log.keep(await cosigner.cosign(offer))
    assert verify_balance(await log.balance(number_of_ann(watched)), PAIR["SH"]).cosigned_at_s


async def test_readers_before_the_first_exchange(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many accounts, readers of balance proofs do not have all accounts copied for each of them."""
    monkeypatch.setattr(cosigning, "SEALED_COUNT_MAX", 3)
    made: list[Sealed] = []

    def counted(state: object) -> Sealed:
        made.append(Sealed(state))  # type: ignore[arg-type] # as it was given
        return made[-1]

    monkeypatch.setattr(cosigning, "Sealed", counted)
    log, node = watched.sides["SH"], watched.node("SH")
    first = await log.balance(number_of_ann(watched))
    await paid(watched, 5_00)
    assert await log.balance(number_of_ann(watched)) == first
    assert len(made) == 1
    node.runtime.move_to(node.runtime.now_ns() + cosigning.SEAL_INTERVAL_NS)
    found = verify_balance(await log.balance(number_of_ann(watched)), PAIR["SH"])
    assert found.account == node.machine.state.account(number_of_ann(watched))
    assert len(made) == 2
