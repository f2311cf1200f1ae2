"""Warming reaches every kernel, so that no block and no window waits for a compiler."""

from __future__ import annotations

import pytest

from ledger import groups, holds, kernel, packing, registry, reversals, sections
from ledger.store import parts
from settlement import liquidity, netting, warm

KERNELS = [
    *(kernel.survey, kernel.apply_commands, reversals.find_originals, holds.due_slots, holds.first_of_circles),
    *(groups._collect, groups._end_all, groups._set_status, groups._move_all, groups._write_points),
    *(registry.hash_id, registry.find, registry.respread),
    *(liquidity._drop, liquidity._fill, netting._add_halves),
    *(packing._gather, packing._scatter, packing._compare, sections._link, sections._relink),
    *(parts._part_words, parts._join_words),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_warming_compiles_every_kernel(kernel: object) -> None:
    """After warming, each compiled function has a signature: the one that everybody calls it with."""
    warm.warm()
    assert getattr(kernel, "signatures", [])
