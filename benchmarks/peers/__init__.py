"""Other ledgers on the same machine in the same run: ``python -m benchmarks.peers``.

``run_*.py`` are programs of their own, for each peer's own environment; they import nothing of ours. Each reads a file
of transfers, opens and funds accounts, posts the transfers while a clock runs, checks that all of them arrived, and
prints one JSON document. ``environment`` brings what they need, ``__main__`` lets everybody take turns.
"""
