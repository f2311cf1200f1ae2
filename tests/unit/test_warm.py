"""Warming reaches every kernel, so that no block and no window waits for a compiler."""

from __future__ import annotations

import pytest

from ledger import packing, sections
from ledger.store import parts
from settlement import liquidity, netting, warm

KERNELS = [
    liquidity._drop,
    liquidity._fill,
    netting._add_halves,
    packing._gather,
    packing._scatter,
    packing._compare,
    sections._link,
    parts._part_words,
    parts._join_words,
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_warming_compiles_every_kernel(kernel: object) -> None:
    """After warming, each compiled function has a signature: the one that everybody calls it with."""
    warm.warm()
    assert getattr(kernel, "signatures", [])
