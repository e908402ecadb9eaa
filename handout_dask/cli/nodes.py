"""``handout nodes``: what nodes of a cluster have, who holds it, and what they use."""

from __future__ import annotations

from argparse import Namespace
from time import monotonic, sleep
from typing import Any

from handout_dask.cli.common import OK, add_json, print_json, table

PATIENCE, PAUSE = 2.0, 0.1  # s in which nodes are to say what they use; between looks
HOST = "host_"  # so begin figures of hosts, which the table leaves out
COLUMNS = ("capacity", "usable", "claimed", "free", "observed")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "nodes", help="show nodes: capacity, claimed by whom, free, observed"
    )
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
    from handout_dask.accounts import holders_text, plain
    from handout_dask.runtime.executor import Executor

    with Executor(args.cluster, nodes=args.nodes) as executor:
        rows, usage = _read(executor)
    if args.json:
        print_json({"nodes": [plain(row) for row in rows], "usage": usage})
        return OK
    lines = [("node", "resource", *COLUMNS, "claimed by")]
    for row in rows:
        numbers = [_text(row[what]) for what in COLUMNS]
        by = holders_text(row["holders"]) or "-"
        lines.append((row["node"], row["resource"], *numbers, by))
    declared = {(row["node"], row["resource"]) for row in rows}
    none = ["-"] * (len(COLUMNS) - 1)
    for node, used in usage.items():
        for what, amount in sorted(used.items()):
            if (node, what) not in declared and not what.startswith(HOST):
                lines.append((node, what, *none, _text(amount), "-"))
    print("\n".join(table(lines)))
    return OK


def _read(executor: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and use, once every node has told what it uses, or does not."""
    end = monotonic() + PATIENCE
    while True:
        rows, usage = executor.resources(), executor.usage()
        if {row["node"] for row in rows} <= usage.keys() or monotonic() > end:
            return rows, usage
        sleep(PAUSE)


def _text(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:.6g}"
