"""Draw the curves: ``python -m benchmarks.plots`` makes an SVG of each file of data in ``benchmarks/results``.

The same data give the same bytes. A point is the median of its runs, the bar behind it goes from the slowest to the
fastest of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.curves import RESULTS

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "hugang", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})

from matplotlib.figure import Figure as Drawing  # noqa: E402 - the way of drawing is chosen before

LOGARITHMIC = {"batch_size", "account_count"}
"""Curves whose points lie a factor apart."""


def draw(data: dict[str, Any], path: Path) -> None:
    """Draw one curve."""
    drawing = Drawing(figsize=(6.4, 3.2), layout="constrained")
    axes = drawing.subplots()
    points = data["points"]
    places = [point["x"] for point in points]
    values = [point["value"] for point in points]
    below = [point["value"] - min(point["runs"]) for point in points]
    above = [max(point["runs"]) - point["value"] for point in points]
    axes.errorbar(
        places, values, yerr=[below, above], marker="o", markersize=3, linewidth=1, capsize=2, label="elapsed"
    )
    if "cpu_ns" in points[0]:
        axes.plot(places, [point["cpu_ns"] for point in points], linewidth=1, linestyle="--", label="all processors")
        axes.legend()
    if data["name"] in LOGARITHMIC:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(data["x"])
    axes.set_ylabel(data["y"])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if data["name"] == "growth":
        axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=True, linewidth=0.3)
    machine = data["machine"]
    axes.set_title(f"{machine['cores']} cores {machine['processor']}, commit {machine['commit']}", fontsize=8)
    drawing.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def main() -> None:
    """Draw every curve whose data there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=RESULTS, help="the folder of the data")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the drawings")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for source in sorted(options.data.glob("*.json")):
        data = json.loads(source.read_text(encoding="utf-8"))
        if "points" in data:
            target = options.out / f"{source.stem}.svg"
            draw(data, target)
            print(target)


if __name__ == "__main__":
    main()
