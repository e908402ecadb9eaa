"""What importing costs beside `import distributed`, each in new processes, interleaved.

python -m benchmarks.imports [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "nothing": "pass",
    "distributed": "import distributed",
    "handout_dask": "import handout_dask",
    "pure model and planning": "from handout_dask import Graph, Function, Node, plan",
    "handout_dask.Executor": "from handout_dask import Executor",
}


def seconds(statement: str) -> float:
    """Seconds of a new process that executes the statement."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begin


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(options.rounds):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    start = statistics.median(times["nothing"])
    cost = {name: statistics.median(t) - start for name, t in times.items()}
    rows = {
        name: {"seconds": value, "ratio": value / cost["distributed"]}
        for name, value in cost.items()
        if name != "nothing"
    }
    if options.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return 0
    for name, row in rows.items():
        print(f"{name:28}{row['seconds']:7.3f} s, ratio {row['ratio']:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
