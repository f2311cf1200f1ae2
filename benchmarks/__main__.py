"""Named measurements: ``python -m benchmarks P1 P7 --json``; without a name, all of them in their short form.

=======  ====================================================================================================
P1 - P4  the engine alone (``benchmarks.engine``), transfers a second
P7       a day of wholesale payments settled on both ledgers (``benchmarks.settlement``), seconds
P10      growth: what a transfer costs in a large journal over what it costs at a million (``benchmarks.growth``)
P11      bytes on disk a transfer (``benchmarks.disk``)
P12      opening again after ``kill -9`` (``benchmarks.reopen``), seconds
reads    reading by id and by account (``benchmarks.reads``), microseconds
stores   P1 on SQLite and on PostgreSQL in turn (``benchmarks.two_stores``), transfers a second
=======  ====================================================================================================
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks import disk, engine, growth, reads, reopen, settlement, two_stores
from benchmarks.figures import Figure, Form, figure, machine
from ledger.runtime import keep_memory
from settlement.workload import PARTICIPANT_COUNT, PAYMENT_COUNT, SEED, wholesale_day

RUNS = 3
DAY_PAYMENTS_TINY, DAY_PARTICIPANTS_TINY = 300, 8


def _day(*, runs: int, form: Form) -> Figure:
    """P7: a CIPS-shaped day, from closing the window to settled on both ledgers; seconds."""
    payments, participants = PAYMENT_COUNT, PARTICIPANT_COUNT
    if form is Form.TINY:
        payments, participants = DAY_PAYMENTS_TINY, DAY_PARTICIPANTS_TINY
    day = wholesale_day(SEED, payment_count=payments, participant_count=participants)
    found = settlement.measure(day, runs=runs, progress=lambda text: print(text, file=sys.stderr))
    return figure(
        [run["settle_s"] for run in found["runs"]],
        unit="s",
        conditions=found["workload"],
        stages=found["runs"][-1]["stages_s"],
    )


MEASURES = {
    "P7": _day,
    "P10": growth.measure,
    "P11": disk.measure,
    "P12": reopen.measure,
    "reads": reads.measure,
    "stores": two_stores.measure,
}
NAMES = (*engine.WORKLOADS, *MEASURES)


def measure(name: str, *, runs: int, form: Form) -> Figure:
    """Measure what has this name."""
    if name in engine.WORKLOADS:
        return engine.measure(name, runs=runs, form=form)
    return MEASURES[name](runs=runs, form=form)


def _line(found: dict[str, Any]) -> str:
    """Write a value with its runs."""
    return f"{found['value']:,} (runs: {', '.join(f'{run:,}' for run in found['runs'])})"


def _print(name: str, found: Figure) -> None:
    """Print a result as a few lines."""
    print(f"{name}  {found['unit']}: {_line(found)}")
    for label, beside in found.items():
        if isinstance(beside, dict) and "runs" in beside:
            print(f"    {label}: {_line(beside)}")
        elif label == "stores":
            for store, rates in beside.items():
                print(f"    {store}: {_line(rates)}")
        elif label in {"stages", "limits", "rates"}:
            for stage, value in beside.items():
                print(f"    {label}: {stage} {value if not isinstance(value, dict) else value['ns']}")


def main() -> None:
    """Measure what is named and print it as JSON, or as a few lines each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="form", action="store_const", const=Form.FULL, help="the long form")
    size.add_argument("--tiny", dest="form", action="store_const", const=Form.TINY, help="to see that it works")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.set_defaults(form=Form.SHORT)
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown or options.runs < 1:
        parser.error(f"there is no {', '.join(unknown)}" if unknown else "there is at least one run")
    keep_memory()
    result: dict[str, Any] = {}
    for name in options.names or NAMES:
        print(f"{name} ...", file=sys.stderr)
        result[name] = measure(name, runs=options.runs, form=options.form)
        if not options.json:
            _print(name, result[name])
    if options.json:
        json.dump(result | {"machine": machine()}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
