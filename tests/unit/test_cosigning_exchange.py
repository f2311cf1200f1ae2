"""Two nodes that cosign each other: before netting, across restarts and failures, and after an old backup."""

from __future__ import annotations

import pytest

from ledger import logs, merkle
from ledger.durable import MemoryCell
from ledger.errors import Conflict, IntegrityFailure, LedgerError, Unavailable
from settlement import coordinator
from settlement.book import PEER, WindowState
from settlement.statements import LEDGERS
from tests.cosigning_fixture import Disk, Far, Watched
from tests.receipt_fixture import PAIR
from tests.settlement_fixture import NETWORK, NETWORK_HASH, World, key_of

pytestmark = pytest.mark.anyio


async def paid(watched: Watched, amount: int) -> None:
    """Have Ann pay Dan."""
    world = watched.pair.world
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", amount))
    await watched.pair.catch_up()


def sizes(watched: Watched) -> dict[str, int]:
    """Give how many leaves of each journal are cosigned."""
    return {ledger: watched.sides[ledger].cosigned_size for ledger in LEDGERS}


def leaves(watched: Watched) -> dict[str, int]:
    """Give how many leaves each journal has."""
    return {ledger: watched.node(ledger).machine.frontier.size for ledger in LEDGERS}


async def test_an_exchange_cosigns_both_journals() -> None:
    """After an exchange each node keeps a checkpoint of its whole journal that the other has cosigned."""
    async with Watched.make() as watched:
        notes = await watched.exchange()
        assert sizes(watched) == leaves(watched)
        for ledger, note in notes.items():
            opened = logs.open_own(note, PAIR["SH"], ledger)
            assert set(opened.cosigned_at_s) == {logs.origin(NETWORK, PEER[ledger])}
            assert opened.checkpoint.root == watched.node(ledger).machine.frontier.root()
            assert watched.sides[ledger].cosigned_note == note


async def test_exchanges_follow_the_journals() -> None:
    """Each exchange proves from the last one's size, and one with nothing new gives the same checkpoint again."""
    async with Watched.make() as watched:
        first = await watched.exchange()
        await paid(watched, 1_00)
        second = await watched.exchange()
        assert sizes(watched) == leaves(watched)
        assert second["SH"] != first["SH"]
        assert (await watched.exchange())["SH"].splitlines()[:3] == second["SH"].splitlines()[:3]


async def test_cosigning_precedes_netting() -> None:
    """A cycle has both closes cosigned before the proposal, and both decisions afterwards."""
    async with Watched.make() as watched:
        await paid(watched, 5_00)
        seen: list[tuple[str, dict[str, int]]] = []

        def tell(stage: str) -> None:
            seen.append((stage, sizes(watched)))

        await coordinator.run_cycle(
            watched.pair.ports(),
            key=key_of("SETTLEMENT"),
            network_hash=NETWORK_HASH,
            window=1,
            runtime=watched.node("SH").runtime,
            progress=tell,
            cosigners=watched.ports(),
        )
        stages = [stage for stage, _ in seen]
        assert stages.index("reject") < stages.index("cosign") < stages.index("net")
        before = dict(seen)["net"]
        assert all(before[ledger] > 0 for ledger in LEDGERS)
        decided = {ledger: watched.node(ledger).book.windows[1].settled_position for ledger in LEDGERS}
        assert all(before[ledger] <= decided[ledger] < sizes(watched)[ledger] for ledger in LEDGERS)


async def test_nothing_is_netted_uncosigned() -> None:
    """A node votes on no window whose close lies beyond what the other has cosigned."""
    async with Watched.make() as watched:
        await watched.exchange()
        await paid(watched, 5_00)
        with pytest.raises(Unavailable, match="CYCLE_UNDECIDED"):
            await watched.pair.settle(1)
        assert all(watched.node(ledger).book.windows[1].state is WindowState.ACCEPTED for ledger in LEDGERS)
        await watched.settle(1)
        assert all(watched.node(ledger).book.windows[1].state is WindowState.SETTLED for ledger in LEDGERS)


async def test_local_payments_go_on_while_nobody_cosigns() -> None:
    """With the other node out of reach, payments are journaled and only the settlement waits."""
    async with Watched.make() as watched:
        ports = watched.ports()
        ports["HK"].fate = lambda _: "lost"
        await paid(watched, 5_00)
        with pytest.raises(Unavailable):
            await watched.settle(1, ports)
        before = leaves(watched)["SH"]
        await paid(watched, 6_00)
        assert leaves(watched)["SH"] > before
        assert watched.halted == {}
        await watched.settle(1)


@pytest.mark.parametrize("call", ["cosigned", "offer", "cosign", "keep"])
@pytest.mark.parametrize("fate", ["lost", "answer lost"])
async def test_any_message_may_be_lost(call: str, fate: str) -> None:
    """Whichever message of an exchange is lost, or its answer, the next exchange brings both journals up."""
    async with Watched.make() as watched:
        await watched.exchange()
        await paid(watched, 5_00)
        ports = watched.ports()
        left = [1]

        def lose(name: str) -> str:
            if name == call and left:
                left.pop()
                return fate
            return "pass"

        ports["SH"].fate = lose
        with pytest.raises(Unavailable):
            await watched.exchange(ports)
        await watched.exchange(ports)
        assert sizes(watched) == leaves(watched)


async def test_two_exchanges_at_once() -> None:
    """An exchange that another one overtakes looks again and ends well."""
    async with Watched.make() as watched:
        await paid(watched, 5_00)
        ports, others = watched.ports(), watched.ports()
        overtaken = False

        class Overtaken(Far):
            async def cosign(self, offer: object) -> bytes:
                nonlocal overtaken
                if not overtaken:
                    overtaken = True
                    await watched.exchange(others)
                    await paid(watched, 6_00)
                    await watched.exchange(others)
                return await super().cosign(offer)  # type: ignore[arg-type] # as it was given

        ports["HK"] = Overtaken(watched, "HK")
        await watched.exchange(ports)
        assert overtaken
        assert sizes(watched) == leaves(watched)


async def test_an_exchange_that_is_always_overtaken() -> None:
    """An exchange that is overtaken every time gives up and says so."""
    async with Watched.make() as watched:
        ports = watched.ports()

        class Busy(Far):
            async def cosign(self, offer: object) -> bytes:
                raise Conflict("CHECKPOINT_BASE", "Another exchange was faster.", size=1, offer=repr(offer)[:0])

        ports["HK"] = Busy(watched, "HK")
        with pytest.raises(Unavailable, match="COSIGNING_BUSY"):
            await watched.exchange(ports)


async def test_a_log_that_its_cosigner_does_not_believe() -> None:
    """What the cosigner refuses for good ends the exchange with its reason."""
    async with Watched.make() as watched:
        ports = watched.ports()

        class Doubting(Far):
            async def cosign(self, offer: object) -> bytes:
                raise Conflict("CHECKPOINT_INCONSISTENT", "It does not extend the last one.", size=len(repr(offer)))

        ports["HK"] = Doubting(watched, "HK")
        with pytest.raises(Conflict, match="CHECKPOINT_INCONSISTENT"):
            await watched.exchange(ports)


async def test_a_cosigner_that_was_restarted() -> None:
    """Nodes that are opened again from their journals go on from the sizes they have kept."""
    async with Watched.make() as watched:
        await watched.exchange()
        await paid(watched, 5_00)
        for ledger in LEDGERS:
            await watched.reopen(ledger)
        before = {ledger: watched.disks[ledger].others.read() for ledger in LEDGERS}
        assert {ledger: await watched.sides[ledger].cosigned() for ledger in LEDGERS} == before
        await watched.exchange()
        assert sizes(watched) == leaves(watched)


# --- an old backup ----------------------------------------------------------------------------------------------------


async def test_a_journal_restored_beside_its_newer_notes() -> None:
    """A node whose journal came from an older copy than its kept checkpoint does not even open."""
    async with Watched.make() as watched:
        height = watched.node("SH").machine.height
        await paid(watched, 5_00)
        await watched.exchange()
        with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
            await watched.restore("SH", height, watched.disks["SH"])


async def test_a_node_restored_whole_from_an_old_copy() -> None:
    """A node restored with everything from an older copy learns it from its cosigner, stops, and signs nothing more."""
    async with Watched.make() as watched:
        await watched.exchange()
        height, backup = watched.node("SH").machine.height, watched.disks["SH"].copy()
        await paid(watched, 5_00)
        await watched.exchange()
        known = await watched.sides["HK"].cosigned()
        await watched.restore("SH", height, backup)
        with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
            await watched.exchange()
        assert set(watched.halted) == {"SH"}
        assert await watched.sides["HK"].cosigned() == known


async def test_a_restored_node_that_has_gone_on() -> None:
    """A restored node that has journaled other things since, and is longer by now, is found out by its roots."""
    async with Watched.make() as watched:
        await watched.exchange()
        height, backup = watched.node("SH").machine.height, watched.disks["SH"].copy()
        await paid(watched, 5_00)
        await watched.exchange()
        await watched.restore("SH", height, backup)
        for amount in (6_00, 7_00, 8_00):
            await paid(watched, amount)
        with pytest.raises(IntegrityFailure, match="HISTORY_DIFFERS"):
            await watched.exchange()
        assert set(watched.halted) == {"SH"}


async def test_a_restored_node_settles_nothing() -> None:
    """A cycle over a node restored from an older copy ends before anything is netted."""
    async with Watched.make() as watched:
        await watched.exchange()
        height, backup = watched.node("SH").machine.height, watched.disks["SH"].copy()
        await paid(watched, 5_00)
        await watched.exchange()
        await watched.restore("SH", height, backup)
        with pytest.raises(IntegrityFailure, match="HISTORY_"):
            await watched.settle(1)
        assert set(watched.halted) == {"SH"}
        assert watched.node("HK").book.windows[1].state is not WindowState.SETTLED


async def test_what_the_other_node_says_is_heard() -> None:
    """A node that hears of a checkpoint it has signed goes on if it has it, and stops if it does not."""
    async with Watched.make() as watched:
        await watched.exchange()
        side = watched.sides["SH"]
        await side.hear(await watched.sides["HK"].cosigned())
        await side.hear(b"")
        with pytest.raises(LedgerError):
            await side.hear(b"hello")
        assert watched.halted == {}
        size, root = await side.durable_tree()
        assert root != merkle.EMPTY_ROOT
        huge = logs.sign_checkpoint(
            logs.checkpoint.Checkpoint(logs.origin(NETWORK, "SH"), size + 1, bytes(32)), key_of("NODE-SH")
        )
        with pytest.raises(IntegrityFailure, match="HISTORY_LOST"):
            await side.hear(huge)
        assert set(watched.halted) == {"SH"}


async def test_a_forgotten_cosigner_begins_anew() -> None:
    """A cosigner that has lost its own memory cosigns from the beginning; the log does not mind."""
    async with Watched.make() as watched:
        await watched.exchange()
        watched.disks["HK"] = Disk(watched.disks["HK"].own, MemoryCell())
        watched.open("HK")
        await paid(watched, 5_00)
        await watched.exchange()
        assert sizes(watched) == leaves(watched)


async def test_a_checkpoint_for_a_proof() -> None:
    """Where the cosigned checkpoint holds a position it is given, otherwise a new one that nobody has cosigned."""
    async with Watched.make(World.funded()) as watched:
        side = watched.sides["SH"]
        bare = logs.open_own(await side.checkpoint(), PAIR["SH"], "SH")
        assert (dict(bare.cosigned_at_s), bare.checkpoint.size) == ({}, leaves(watched)["SH"])
        await watched.exchange()
        size = side.cosigned_size
        await paid(watched, 5_00)
        assert await side.checkpoint(size) == side.cosigned_note
        fresh = logs.open_own(await side.checkpoint(size + 1), PAIR["SH"], "SH")
        assert (dict(fresh.cosigned_at_s), fresh.checkpoint.size) == ({}, leaves(watched)["SH"])
