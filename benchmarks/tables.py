"""The tables of docs/performance.md: ``python -m benchmarks.tables`` writes them anew from the data.

They come from files in ``benchmarks/results``: ``measured.json`` is what ``python -m benchmarks --json`` prints,
``full.json`` what ``python -m benchmarks P10 P12 reads --full --runs 1 --json`` prints, ``peers.json`` what
``python -m benchmarks.peers --json`` prints. Each table stands between two comments that name it.
``--check`` writes nothing and exits with 1 when the page is not what the data give.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.curves import RESULTS
from benchmarks.figures import Figure, rounded
from benchmarks.peers.environment import SHOWN

__all__ = ["main"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
MEASURED, FULL, PEERS = "measured.json", "full.json", "peers.json"
STAGES = {
    "admit_cpu_ns": "decode and verify",
    "authorise_cpu_ns": "authorise",
    "kernel_cpu_ns": "kernel",
    "apply_rest_cpu_ns": "the rest of applying",
    "tree_cpu_ns": "leaves and tree",
    "encode_cpu_ns": "encode and hash",
    "compress_cpu_ns": "compress",
    "commit_cpu_ns": "commit, processor",
    "commit_wall_ns": "commit, elapsed",
}
MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

Row = Sequence[object]


def _table(head: Row, rows: Iterator[Row]) -> str:
    """Write a table; columns with a number in them stand to the right."""
    body = list(rows)
    are_numbers = [any(isinstance(cell, int | float) for cell in column) for column in zip(*body, strict=True)]
    lines = [head, ["---:" if is_number else "---" for is_number in are_numbers], *body]
    return "".join(f"| {' | '.join(_text(cell) for cell in line)} |\n" for line in lines)


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int | float) else str(cell)


def _where(data: Figure) -> str:
    """Say which machine it was, and how busy."""
    machine = data["machine"]
    return (
        f"{machine['cores']} cores {machine['processor']}, {machine['memory_gib']} GiB, Python {machine['python']}, "
        f"commit {machine['commit']}, load average {machine['load_average']} at the end.\n\n"
    )


def _figures(data: Figure) -> str:
    """The named figures, run by run."""
    rows: list[Row] = []

    def add(label: str, unit: str, found: Figure) -> None:
        rows.append([label, unit, found["value"], ", ".join(_text(run) for run in found["runs"])])

    p1, p3, p11 = (data[name] for name in ("P1", "P3", "P11"))
    add("P1, batches of 65,536", p1["unit"], p1)
    add("P1, batches of 8,192", p1["unit"], p1["batch_8192"])
    add("P1, one by one from many tasks", p1["unit"], p1["single_submit"])
    behind = p1["single_behind_a_million"]
    add(f"P1, longest wait of a single transfer behind {behind['lines']:,} lines", "ms", behind)
    add("P2, 16 accounts", p1["unit"], data["P2"])
    add("P3, chains of two", p1["unit"], p3)
    add("P3, pending and post", p1["unit"], p3["pending_post"])
    add("P4, random ids", p1["unit"], data["P4"])
    add("P7, a day settled", data["P7"]["unit"], data["P7"])
    add("P11, ids in order of time", "bytes/transfer", p11)
    add("P11, random ids", "bytes/transfer", p11["random_ids"])
    rows += _grown(data)
    return _where(data) + _table(["what", "unit", "median", "runs"], iter(rows))


def _grown(data: Figure) -> list[Row]:
    """What grows with the journal: P10 and P12."""
    rows: list[Row] = []

    def add(label: str, unit: str, found: Figure) -> None:
        rows.append([label, unit, found["value"], ", ".join(_text(run) for run in found["runs"])])

    p10, p12 = data["P10"], data["P12"]
    sizes = p10["conditions"]["journals"]
    add(f"P10, at {sizes['large']:,} over at {sizes['small']:,}", "ratio of times", p10)
    add("P10, the same in processor time", "ratio of times", p10["cpu_ratio"])
    rows.append(["P10, longest pause between two answers", "ms", p10["longest_pause_ms"], ""])
    rows.append(["P10, longest call of `Registry.reserve`", "ms", p10["longest_reserve_ms"]["wall"], ""])
    rows.append(["P10, memory of the registry", "bytes/id", p10["bytes_per_id"], ""])
    count = statistics.median_low(p12["conditions"]["transfers_in_the_journal"])
    add(f"P12, from the start of the process, {count:,} transfers", "s", p12)
    add("P12, from `Node.open`", "s", p12["from_open"])
    add("P12, with a snapshot, from the start of the process", "s", p12["with_snapshot"])
    add("P12, with a snapshot, from `Node.open`", "s", p12["with_snapshot_from_open"])
    return rows


def _full(data: Figure) -> str:
    """The same in the long form, a hundred times as large, once."""
    return _where(data) + _table(["what", "unit", "value", "runs"], iter(_grown(data)))


def _stores(data: Figure) -> str:
    """The engine on each store."""
    found = data["stores"]
    rows = ([name, rates["value"], ", ".join(map(_text, rates["runs"]))] for name, rates in found["stores"].items())
    settings = ", ".join(
        f"{name} {found['conditions'][name]}" for name in ("server", *SHOWN) if name in found["conditions"]
    )
    return f"{settings or found['missing']}.\n\n" + _table(["store", "transfers/s, median", "runs"], rows)


def _stages(data: Figure) -> str:
    """What a transfer costs in each stage, and what it must cost at least."""
    p1 = data["P1"]

    def rows() -> Iterator[Row]:
        for name, label in STAGES.items():
            limit = p1["limits"].get(name)
            if limit is None:
                yield [label, p1["stages"][name], "", "", ""]
            else:
                times = rounded(p1["stages"][name] / limit["ns"])
                yield [label, p1["stages"][name], limit["ns"], times, limit["of"]]

    rates = p1["rates"]
    text = (
        f"In the same run one core read {rates['memory_read_gb_per_s']} GB/s of memory, hashed "
        f"{rates['sha256_gb_per_s']} GB/s with SHA-256 and verified {rates['ed25519_verify_per_s']:,} Ed25519 "
        f"signatures a second; a word anywhere in the registry took {rates['random_read_ns_in_the_registry']} ns. "
        f"{rates['stored_bytes_per_transfer']} bytes a transfer were stored.\n\n"
    )
    return text + _table(["stage", "ns a transfer", "at least", "times that", "what cannot be avoided"], rows())


def _reads(data: Figure) -> str:
    """How long questions take, from journals of each size."""

    def rows() -> Iterator[Row]:
        for count, journal in data["reads"]["journals"].items():
            for question in journal["runs"][0]:
                cells: list[object] = [f"{int(count):,}", question.replace("_", " ")]
                for state in ("cold", "warm"):
                    for percentile in ("p50_us", "p99_us"):
                        found = [run[question][state][percentile] for run in journal["runs"]]
                        cells.append(statistics.median_low(found))
                yield cells

    return _table(["transfers", "question", "cold, median", "cold, p99", "warm, median", "warm, p99"], rows())


def _peers(data: Figure) -> str:
    """Everybody side by side."""

    def rows() -> Iterator[Row]:
        for group, ratios in data["ratios"].items():
            for name, found in data[group].items():
                runs = ", ".join(_text(run) for run in found["runs"])
                yield [group.replace("_", " "), name, found["value"], runs, ratios.get(name, "")]

    text = _where(data) + _table(["workload", "who", "median", "runs", "ours is so many times as fast"], rows()) + "\n"
    for name, peer in data["peers"].items():
        versions = ", ".join(f"{key} {value}" for key, value in sorted(peer["versions"].items()) if key in NAMED)
        settings = ", ".join(f"{key} {value}" for key, value in peer.get("settings", {}).items())
        text += f"- {name} ({versions}{'; ' if settings else ''}{settings}): {peer['lacks']}.\n"
    return text + "".join(f"- {sentence}\n" for sentence in data["missing"])


NAMED = {"tigerbeetle", "django-hordak", "Django", "python-accounting", "SQLAlchemy", "psycopg", "psycopg2-binary"}
TABLES: dict[str, tuple[str, Callable[[Figure], str]]] = {
    "figures": (MEASURED, _figures),
    "stages": (MEASURED, _stages),
    "reads": (FULL, _reads),
    "full": (FULL, _full),
    "stores": (MEASURED, _stores),
    "peers": (PEERS, _peers),
}


def written(page: str) -> str:
    """Give the page with its tables as the data have them."""

    def fill(mark: re.Match[str]) -> str:
        source, write = TABLES[mark[2]]
        return mark[1] + write(json.loads((RESULTS / source).read_text(encoding="utf-8"))) + mark[3]

    return MARK.sub(fill, page)


def main() -> int:
    """Write the page, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if options.check:
        return int(written(page) != page)
    PAGE.write_text(written(page), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
