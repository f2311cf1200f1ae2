"""Which test reaches which result: ``python -m tests.reached`` writes ``docs/results-tests.md`` anew.

Runs the unit tests and notes, test by test, the results of all records that ``ledger.posting.post`` made, and the
reasons for which whole payments were refused. Of the tests that reach a result the page names one that asserts it by
name. With ``--check`` only the tests that the page names are run, and the command fails if one misses its result.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger import posting
from ledger.transfers import Result
from settlement import drafts

__all__ = ["PAGE", "named_tests"]

PAGE = Path("docs/results-tests.md")
_HEAD = """# Every result and the test that reaches it

Written by `python -m tests.reached`, which runs the unit tests and notes the result of every record that is made;
`python -m tests.reached --check` runs the tests named here and fails when one misses its result. What each means stands
in `results.md`.

| number | result | tests that reach it | one that asserts it |
|---|---|---|---|
"""
_ROW = re.compile(r"^\| (\d+) \| `(\w+)` \| (\d+) \| `([^`]+)` \|$", re.MULTILINE)


class Notes:
    """A pytest plugin: the results that each test reaches."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self.reached: dict[str, set[int]] = {}
        self.sources: dict[str, str] = {}
        self._seen: set[int] = set()

    def pytest_collection_finish(self) -> None:
        """Let posting, and what names the reason of a whole payment, tell what they give."""
        post, reason_of = posting.post, drafts.reason_of

        def noting_post(state: Any, commands: Any, **rest: Any) -> None:
            post(state, commands, **rest)
            self._seen.update(np.unique(commands["result"]).tolist())

        def noting_reason_of(*arguments: Any) -> Result:
            reason = reason_of(*arguments)
            self._seen.add(reason)
            return reason

        posting.post = noting_post
        for module in [module for name, module in sys.modules.items() if name.startswith(("settlement", "gateway"))]:
            if getattr(module, "reason_of", None) is reason_of:
                module.reason_of = noting_reason_of  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what comes out while a test and its fixtures run."""
        self._seen = self.reached.setdefault(item.nodeid, set())
        if isinstance(item, pytest.Function):
            self.sources[item.nodeid] = inspect.getsource(item.function) + item.nodeid
        return (yield)

    def row(self, result: Result) -> str:
        """Give the line of the table about one result.

        Raises:
            SystemExit: no test reaches it.
        """
        tests = [test for test, codes in self.reached.items() if result in codes]
        if not tests:
            raise SystemExit(f"no unit test reaches {result.name}")
        by_name = [test for test in tests if re.search(rf"\b{result.name}\b", self.sources.get(test, ""))]
        chosen = min(by_name or tests, key=lambda test: (len(test), test))
        return f"| {int(result)} | `{result.name}` | {len(tests)} | `{chosen}` |\n"


def named_tests(page: str) -> dict[Result, str]:
    """Give the test that a page names for each result."""
    return {Result(int(number)): test for number, _, _, test in _ROW.findall(page)}


def _run(*tests: str) -> Notes:
    notes = Notes()
    if pytest.main(["-q", "--no-header", "-p", "no:randomly", *tests], plugins=[notes]):
        raise SystemExit("the tests do not pass")
    return notes


def main() -> None:
    """Write the page, or hold it to the tests."""
    if sys.argv[1:] != ["--check"]:
        notes = _run("tests/unit")
        PAGE.write_text(_HEAD + "".join(notes.row(result) for result in Result), encoding="utf-8")
        return
    named = named_tests(PAGE.read_text(encoding="utf-8"))
    notes = _run(*sorted(set(named.values())))
    missed = [result.name for result in Result if result not in notes.reached.get(named.get(result, ""), ())]
    if missed:
        raise SystemExit(f"the tests that {PAGE} names do not reach {', '.join(missed)}")
    sys.stdout.write(f"every one of {len(Result)} results is reached by its test\n")


if __name__ == "__main__":
    main()
