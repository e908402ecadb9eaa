"""What crosses the network when one of ten elements is read, beside plain Dask.

A producer makes ten arrays of 10 MB on one node; a function on another reads one. Plain
Dask: the consumer depends on the whole list, as ``delayed(f)(producer[1])`` avoids only
where the scheduler happens to place the element's task with the producer.

    python -m benchmarks.transfer [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import handout_dask as hd


def received(client: Any, name: str) -> float:
    """MB that a worker has received from others so far."""

    def total(dask_worker: Any) -> int:
        log = dask_worker.transfer_incoming_log
        return sum(sum(entry["keys"].values()) for entry in log)

    workers = client.scheduler_info()["workers"]
    address = next(a for a, info in workers.items() if info["name"] == name)
    return float(client.run(total, workers=[address])[address]) / 1e6


def make() -> list[Any]:
    """Ten arrays of 10 MB."""
    import numpy as np

    return [np.full(1_250_000, float(k)) for k in range(10)]


def measure() -> dict[str, float]:
    """MB received by the consumer's node, ours and plain Dask's."""
    nodes = [hd.Node("a", {"cpu": 1, "x": True}), hd.Node("b", {"cpu": 1, "y": True})]
    graph = hd.Graph(
        [
            hd.Function("make", [], make, cost={"x": True, "output_size": "100 MB"}),
            hd.Function("one", [("make", 1)], lambda x: x[:1].sum(), cost={"y": True}),
        ]
    )
    with hd.Executor(nodes=nodes) as executor:
        client = executor.client
        run = executor.execute(graph)
        assert (run["one"], run.where("make"), run.where("one")) == (1.0, "a", "b")
        ours = received(client, "b")
        made = client.submit(make, workers=["a"])
        whole = client.submit(lambda x: x[1][:1].sum(), made, workers=["b"])
        assert whole.result() == 1.0
        return {"ours_mb": ours, "dask_mb": received(client, "b") - ours}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    out = measure()
    if options.json:
        json.dump(out, sys.stdout, indent=2)
        print()
        return 0
    print(f"received by the consumer's node: {out['ours_mb']:.2f} MB")
    print(f"plain Dask, whole result:        {out['dask_mb']:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
