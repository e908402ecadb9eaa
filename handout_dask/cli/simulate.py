"""``handout simulate``: play a plan file, with noise and lost nodes."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import Any

from handout_dask.cli.common import (
    OK,
    add_json,
    load_workflow,
    print_json,
    read_json,
    summary,
)
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.planfile import executed_plan, network_of, plan_from_dict
from handout_dask.problem import NETWORKS, Problem
from handout_dask.simulation import simulate


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("simulate", help="play a plan without a cluster")
    parser.add_argument(
        "plan", metavar="PLAN", help="what `handout plan --json` printed"
    )
    parser.add_argument(
        "workflow", metavar="WORKFLOW", help="WfFormat, or module:graph"
    )
    parser.add_argument("--nodes", required=True, help="TOML or JSON file")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="S",
        help="sigma of a lognormal factor of mean 1 on each run time",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    parser.add_argument(
        "--network", choices=NETWORKS, help="default: that for which the plan is made"
    )
    parser.add_argument(
        "--fail",
        type=_node_at,
        action="append",
        default=[],
        metavar="NODE@T",
        help="the node is gone from T seconds on; may be repeated",
    )
    parser.add_argument(
        "--late",
        type=_node_at,
        action="append",
        default=[],
        metavar="NODE@T",
        help="the node starts nothing before T seconds; may be repeated",
    )
    add_json(parser)
    parser.set_defaults(func=run)


def _node_at(text: str) -> tuple[str, float]:
    node, _, when = text.rpartition("@")
    try:
        seconds = float(when)
    except ValueError:
        seconds = -1.0
    if not node or not seconds >= 0:
        raise ArgumentTypeError(f"{text!r} is not NODE@SECONDS")
    return node, seconds


def run(args: Namespace) -> int:
    """Simulate, and print what came of the plan."""
    graph = load_workflow(args.workflow)
    cluster = read_nodes(args.nodes)
    made = read_json(args.plan)
    problem = Problem(graph, cluster, network=network_of(made))
    plan = plan_from_dict(made, problem)
    network = args.network or problem.network
    spans = simulate(
        plan,
        noise=args.noise,
        seed=args.seed,
        network=network,
        fail=args.fail,
        late=args.late,
    )
    doc = executed_plan(plan, spans, network)
    if args.json:
        print_json(doc)
    else:
        print(summary(doc, cluster))
    return OK
