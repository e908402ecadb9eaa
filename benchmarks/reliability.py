"""Clusters that are broken while they work: plain Dask and by plan, row by row.

Every scenario of `benchmarks.breaking` is played on real processes of their own, by
plain Dask and then by plan, in one run: workers are killed and frozen, hosts cut off in
network namespaces, functions crash, take too much or never end, disks are full. Nothing
is emulated. Executions are counted in a file that functions write to. What does not end
is given up after some time, and told as ``hang > N s``.

    python -m benchmarks.reliability [--rows R1 R4 ...] [--rounds N] [--out JSON]

``again`` counts executions that were not a function's first; ``detect`` is how long it
took until the scheduler gave a broken node up, ``back`` how long, from when the break
was mended, until all nodes were up. Network namespaces and small disks need root; where
they can't be made their rows say so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Any

import distributed

from benchmarks.breaking import functions, graphs, network, nodes, runs, survival, work
from benchmarks.breaking.scene import ROWS, Row, Seen, cluster_of
from benchmarks.breaking.ways import Plain, Planned, Way
from benchmarks.tables import aligned, show

WAYS: dict[str, type[Way]] = {"dask": Plain, "handout": Planned}
MODULES = (nodes, network, functions, graphs, runs, survival)  # that fill the table
Cell = dict[str, Any]


# ------------------------------------------------------------------------ the measuring
def play(row: Row, kind: type[Way], cluster: Any) -> Cell:
    """One scenario by one way, as figures."""
    limit = row.limit if kind is Planned else row.plain
    begin = time.perf_counter()
    try:
        with kind(cluster) as way:
            seen = row.play(way, limit)
    except NotImplementedError as error:
        return {"said": str(error) or "has no such thing"}
    except Exception as error:  # the others shall be measured still
        took = time.perf_counter() - begin
        first = str(error).partition("\n")[0]
        return {"said": f"FAILED: {type(error).__name__}: {first}", "wall": took}
    return figures(seen, limit)


def warm_up(kind: type[Way], cluster: Any) -> None:
    """Run a few functions, so that all is loaded."""
    counts = work.Counts()
    with kind(cluster) as way:
        way.run(work.fan(counts.path, 20, 0.01), limit=60.0)
    counts.remove()


def figures(seen: Seen, limit: float) -> Cell:
    """What is kept of a scenario."""
    return {
        "wall": seen.wall,
        "said": f"hang > {limit:g} s" if seen.said == "hang" else seen.said,
        "exact": seen.exact,
        "again": seen.again,
        "detect": seen.detect,
        "back": seen.back,
        "more": seen.more,
    }


def measure(options: argparse.Namespace) -> list[Cell]:
    """All rows by all ways, on a new cluster for each kind of cluster and way."""
    rows = [
        row
        for row in sorted(ROWS, key=lambda row: int(row.id[1:]))
        if not options.rows or row.id in options.rows
    ]
    cells: list[Cell] = [
        {"row": row.id, "name": row.name, "goal": row.goal, "seen": {}} for row in rows
    ]
    for shape in dict.fromkeys(row.shape for row in rows):
        mine = [
            (row, cell)
            for row, cell in zip(rows, cells, strict=True)
            if row.shape == shape
        ]
        for way in options.ways:
            for _ in range(options.rounds):
                _measure_shape(shape, WAYS[way], mine)
    return cells


def _measure_shape(
    shape: str, kind: type[Way], mine: Iterable[tuple[Row, Cell]]
) -> None:
    stack, cluster, opened = ExitStack(), None, False
    try:
        for row, cell in mine:
            seen = cell["seen"].setdefault(kind.name, [])
            try:
                if not opened:
                    cluster, opened = stack.enter_context(cluster_of(shape)), True
                    warm_up(kind, cluster)
            except OSError as error:
                seen.append({"said": f"not played: {error}"})
                continue
            found = play(row, kind, cluster)
            seen.append(found)
            print(f"{row.id} {row.name}: {kind.name}: {told(found)}", file=sys.stderr)
            if not found.get("exact"):  # who knows what it has left
                with suppress(Exception):
                    stack.close()
                stack, opened = ExitStack(), False
    finally:
        stack.close()


# ------------------------------------------------------------------------ what is told
def told(found: Mapping[str, Any]) -> str:
    """One scenario in a line."""
    text = [found["said"]]
    if found.get("said") == "done" and not found["exact"]:
        text = ["done, but WRONG"]
    if "wall" in found and not str(found["said"]).startswith("hang"):
        text.append(f"{found['wall']:.1f} s")
    if found.get("again"):
        text.append(f"{found['again']} again")
    for what in ("detect", "back"):
        if found.get(what) is not None:
            text.append(f"{what} {found[what]:.1f} s")
    for what, value in found.get("more", {}).items():
        if what != "text" and value is not None:
            text.append(f"{what} {value}")
    return "; ".join(text)


def middle(seen: list[Cell]) -> Cell:
    """Of several rounds the one whose time is the median; a failure goes first."""
    bad = [cell for cell in seen if not cell.get("exact")]
    if bad:
        return bad[0]
    wall = statistics.median_low(cell["wall"] for cell in seen)
    return next(cell for cell in seen if cell["wall"] == wall)


def report(out: Mapping[str, Any]) -> str:
    """The rows as a table, and below what each saw."""
    header = ["row", "scenario", "dask [s]", "handout [s]", "dask", "handout"]
    rows, more = [], []
    for cell in out["cells"]:
        shown = {way: middle(seen) for way, seen in cell["seen"].items() if seen}
        text = [cell["row"], cell["name"]]
        for way in ("dask", "handout"):
            found = shown.get(way, {})
            said = str(found.get("said", "-"))
            hangs = said.startswith("hang")
            text.append("" if hangs else show(found.get("wall"), 1))
        for way in ("dask", "handout"):
            found = shown.get(way, {})
            said = str(found.get("said", "-"))[:40]
            text.append("exact" if found.get("exact") and said == "done" else said)
        rows.append(text)
        more.append(f"{cell['row']} {cell['name']} (goal: {cell['goal']})")
        more += [f"    {way}: {told(found)}" for way, found in shown.items()]
    first = (
        f"{out['date']}, distributed {out['distributed']}, Python {out['python']}, "
        f"{out['cores']} cores, rounds {out['rounds']}"
    )
    return "\n".join([first, aligned(header, rows), "", *more])


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", nargs="+", metavar="R", help="such as R1 R4; default: all")
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add("--rounds", type=int, default=1)
    add("--out", metavar="JSON")
    options = parser.parse_args(argv)
    begin = time.perf_counter()
    out = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "distributed": distributed.__version__,
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "cells": measure(options),
    }
    out["seconds"] = time.perf_counter() - begin
    print(report(out))
    if options.out:
        text = json.dumps(out, indent=1, default=str)
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    bad = [
        cell
        for cell in out["cells"]
        for found in cell["seen"].get("handout", ())
        if not found.get("exact") and not str(found["said"]).startswith("not played")
    ]
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
