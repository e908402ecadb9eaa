"""``handout plan``: a workflow and nodes in, a plan out; without a cluster."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from handout_dask.cli.common import OK, add_json, load_workflow, print_json, summary
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.planfile import plan_to_dict
from handout_dask.node import BILLINGS
from handout_dask.plans import plan


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("plan", help="decide which node runs what, and when")
    parser.add_argument(
        "workflow", metavar="WORKFLOW", help="WfFormat, or module:graph"
    )
    parser.add_argument("--nodes", required=True, help="TOML or JSON file")
    parser.add_argument("--allocator", default="time", help="default: time")
    parser.add_argument("--billing", choices=BILLINGS, help="default: as NODES says")
    parser.add_argument(
        "--quantum",
        type=float,
        metavar="S",
        help="seconds to which a hold is rounded up",
    )
    parser.add_argument(
        "--network",
        choices=("free",),
        default="free",
        help="how transfers are assumed to behave: free ones don't compete",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="for allocators that draw random numbers; the present ones draw none",
    )
    parser.add_argument("--out", metavar="FILE", help="write the plan as JSON there")
    add_json(parser)
    parser.set_defaults(func=run)


def run(args: Namespace) -> int:
    """Plan, and print the plan."""
    graph = load_workflow(args.workflow)
    cluster = read_nodes(args.nodes, billing=args.billing, quantum=args.quantum)
    doc = plan_to_dict(plan(graph, cluster, args.allocator, args.network))
    if args.out:
        Path(args.out).write_text(json.dumps(doc) + "\n", encoding="utf-8")
    if args.json:
        print_json(doc)
    else:
        print(summary(doc, cluster))
    return OK
