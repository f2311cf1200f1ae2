"""What a server process does before it serves."""

from __future__ import annotations

import gc

from gateway.serve import leave_modules_alone


def test_what_was_loaded_is_not_collected_again() -> None:
    """What exists now is left alone; what is made afterwards, and cannot be reached, is still collected."""
    try:
        leave_modules_alone()
        assert gc.get_freeze_count() > 10_000
        ring: list[object] = []
        ring.append(ring)
        del ring
        assert gc.collect() > 0
    finally:
        gc.unfreeze()
