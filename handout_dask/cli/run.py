"""``handout run``: plan a workflow on a Dask cluster and run it by the plan."""

from __future__ import annotations

import contextlib
import logging
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from handout_dask.cli.common import BadUsageError, add_json, load_workflow
from handout_dask.cli.live import finish, follow, show_plan
from handout_dask.cli.report import check_output
from handout_dask.graph import Graph


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run", help="run a workflow on a Dask cluster, by plan"
    )
    parser.add_argument(
        "workflow", metavar="WORKFLOW", help="WfFormat, or module:graph"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler; default: start the nodes on this host",
    )
    parser.add_argument("--nodes", help="TOML or JSON file: what to start, or declare")
    parser.add_argument("--allocator", default="time", help="default: time")
    parser.add_argument(
        "--journal",
        metavar="FOLDER",
        help="or URL, where results are kept, for `handout resume`",
    )
    parser.add_argument(
        "--replay",
        choices=("sleep", "spin"),
        help="for a trace: functions take their run time and do nothing",
    )
    parser.add_argument(
        "--time-scale",
        type=float,
        metavar="F",
        help="factor on replayed run times and sizes; default: 1",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write what became of it to a page (.html), as JSON or as text (.txt)",
    )
    add_json(parser)
    parser.set_defaults(func=run)


def run(args: Namespace) -> int:
    """Run, show progress, and print what happened against the plan."""
    check_output(args.report)
    graph = load_workflow(args.workflow)
    if args.replay:
        from handout_dask.runtime.replay import replayed

        scale = 1.0 if args.time_scale is None else args.time_scale
        graph = replayed(graph, args.replay, scale)
    elif args.time_scale is not None:
        raise BadUsageError("--time-scale goes with --replay sleep or --replay spin")
    elif (without := _without_code(graph)) is not None:
        raise BadUsageError(
            f"{args.workflow}: function {without!r} has no code to run; a trace can be "
            "replayed: --replay sleep, or --replay spin"
        )
    from handout_dask.runtime.executor import Executor

    with Executor(
        args.cluster,
        nodes=args.nodes,
        allocator=args.allocator,
        journal=args.journal,
    ) as executor:
        emulation = _speeds(executor) if args.replay else contextlib.nullcontext()
        with emulation, _quiet_when_interrupted():
            made = executor.submit(graph, keep="sinks")
            if not args.json:
                show_plan(made)
                if args.journal is not None:
                    print(f"run            {made.token}")
                print(f"dashboard      {executor.dashboard_link}\n", flush=True)
                follow(made)
            else:
                made.wait()
            if args.report is not None:
                made.report(args.report)
            return finish(made, args.json)


@contextlib.contextmanager
def _quiet_when_interrupted() -> Iterator[None]:
    """Ctrl-C ends the workers, too; that they can't be asked then is no news."""
    try:
        yield
    except KeyboardInterrupt:
        for name in ("distributed.scheduler", "distributed.nanny"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        raise


def _without_code(graph: Graph) -> Any:
    for function in graph:
        if function.variant(0) is None:
            return function.id
    return None


@contextlib.contextmanager
def _speeds(executor: Any) -> Iterator[None]:
    """Replayed functions know the speed of their node meanwhile."""
    from handout_dask.runtime.replay import SPEEDS, Speeds

    executor.client.register_plugin(Speeds(executor.nodes().nodes))
    try:
        yield
    finally:
        executor.client.unregister_worker_plugin(SPEEDS)
