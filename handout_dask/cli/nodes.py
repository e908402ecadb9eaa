"""``handout nodes``: what the nodes of a cluster have, and what is claimed of it."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import Any

from handout_dask.cli.common import OK, add_json, print_json, table


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("nodes", help="show nodes: capacity, claimed, free")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler; default: what would be started on this host",
    )
    parser.add_argument("--nodes", help="TOML or JSON file that declares more of them")
    add_json(parser)
    parser.set_defaults(func=run)


def run(args: Namespace) -> int:
    """Print a row for each resource of each node."""
    from handout_dask.runtime.executor import Executor

    with Executor(args.cluster, nodes=args.nodes) as executor:
        rows = executor.resources()
    if args.json:
        print_json({"nodes": [_json(row) for row in rows]})
        return OK
    lines = [("node", "resource", "capacity", "claimed", "free", "observed")]
    for row in rows:
        free = row["capacity"] - row["claimed"]
        numbers = (row["capacity"], row["claimed"], free, row["observed"])
        texts = ["-" if x is None else f"{x:.6g}" for x in numbers]
        lines.append((row["node"], row["resource"], *texts))
    print("\n".join(table(lines)))
    return OK


def _json(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an unlimited capacity is null."""
    free = row["capacity"] - row["claimed"]
    out = {**row, "free": free}
    return {k: None if v == math.inf else v for k, v in out.items()}
