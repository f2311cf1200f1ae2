"""Warming reaches every kernel of settlement, so that no window waits for a compiler."""

from __future__ import annotations

import pytest

from settlement import liquidity, netting, warm


@pytest.mark.parametrize(
    "kernel", [liquidity._drop, liquidity._fill, netting._add_halves], ids=lambda kernel: kernel.__name__
)
def test_warming_compiles_every_kernel(kernel: object) -> None:
    """After warming, each compiled function has the signature that settlement calls it with."""
    warm.warm()
    assert getattr(kernel, "signatures", [])
