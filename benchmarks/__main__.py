"""Named measurements: ``python -m benchmarks P1 P7 --json``; without a name, all of them in their short form."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from typing import Any

from benchmarks import engine, settlement
from settlement.workload import PARTICIPANT_COUNT, PAYMENT_COUNT, SEED, wholesale_day

NAMES = (*engine.WORKLOADS, "P7")
RUNS = 3


def _day(*, runs: int) -> dict[str, Any]:
    """P7: a CIPS-shaped day, from closing the window to settled on both ledgers; seconds."""
    day = wholesale_day(SEED, payment_count=PAYMENT_COUNT, participant_count=PARTICIPANT_COUNT)
    found = settlement.measure(day, runs=runs, progress=lambda text: print(text, file=sys.stderr))
    seconds = [run["settle_s"] for run in found["runs"]]
    return {
        "value": sorted(seconds)[runs // 2],
        "unit": "s",
        "runs": seconds,
        "conditions": found["workload"],
        "stages": found["runs"][-1]["stages_s"],
    }


def main() -> None:
    """Measure what is named and print it as JSON, or as a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--full", action="store_true", help="the long form")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    for name in arguments.names or NAMES:
        print(f"{name} ...", file=sys.stderr)
        result[name] = (
            _day(runs=arguments.runs)
            if name == "P7"
            else engine.measure(name, runs=arguments.runs, full=arguments.full)
        )
    if arguments.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        result["machine"] = {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "commit": commit.stdout.strip(),
        }
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for name, found in result.items():
        print(f"{name}  {found['value']:,} {found['unit']}  (runs: {', '.join(f'{run:,}' for run in found['runs'])})")
        for label, part in found.items():
            if isinstance(part, dict) and "runs" in part:
                runs = ", ".join(f"{run:,}" for run in part["runs"])
                print(f"    {label}: {part['value']:,} {found['unit']}  (runs: {runs})")


if __name__ == "__main__":
    main()
