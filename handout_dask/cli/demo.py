"""``handout demo``: real computation on three embedded nodes that differ."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from handout_dask.cli.common import add_json
from handout_dask.cli.live import finish, follow, show_plan
from handout_dask.errors import HandoutError


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="analyse pictures on three small nodes")
    add_json(parser)
    parser.set_defaults(func=run)


def run(args: Namespace) -> int:
    """Plan and run the demo's graph; print plan, progress, result and comparison."""
    try:
        import skimage  # noqa: F401
    except ImportError:
        raise HandoutError(
            "the demo's pictures are in scikit-image: pip install 'handout_dask[demo]'"
        ) from None
    from handout_dask.demo import NODES, graph
    from handout_dask.runtime.executor import Executor

    with Executor(nodes=NODES) as executor:
        made = executor.submit(graph())
        if not args.json:
            show_plan(made)
            print(f"dashboard      {executor.dashboard_link}\n", flush=True)
            follow(made)
        else:
            made.wait()
        if not args.json and made.status == "done":
            print(f"\n{made['result']}")
        result = made["result"] if made.status == "done" else None
        link = executor.dashboard_link
        code = finish(made, args.json, result=result, dashboard=link)
    slots, cores = sum(node.slots or 1 for node in NODES), os.cpu_count() or 1
    if not args.json and cores < slots:
        print(
            f"\nThe nodes have {slots} slots, this machine {cores} cores: functions "
            "wait for each other, and take longer than planned."
        )
    return code
