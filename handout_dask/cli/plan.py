"""``handout plan``: a workflow and nodes in, plans out; without a cluster."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from handout_dask.allocators import TABLE, Allocator, allocator
from handout_dask.cli.common import (
    OK,
    BadUsageError,
    add_json,
    load_workflow,
    notes,
    print_json,
    summary,
    table,
)
from handout_dask.errors import AllocationError
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.planfile import plan_to_dict
from handout_dask.node import BILLINGS
from handout_dask.plans import allocate_all, plan
from handout_dask.problem import NETWORKS, Problem

# Options that are fields of allocators, and the allocator that one of them implies.
OPTIONS = {
    "deadline": ("--deadline", "cost"),
    "budget": ("--budget", "cost"),
    "tradeoff": ("--tradeoff", "cost"),
    "by": ("--by", "cost"),
    "weights": ("--objective", "objective"),
    "time_budget": ("--time-budget", None),
    "iterations": ("--iterations", None),
    "seed": ("--seed", None),
}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("plan", help="decide which node runs what, and when")
    parser.add_argument(
        "workflow", metavar="WORKFLOW", help="WfFormat, or module:graph"
    )
    parser.add_argument("--nodes", required=True, help="TOML or JSON file")
    parser.add_argument(
        "--allocator",
        metavar="NAME",
        help="default: what other options imply, else time",
    )
    parser.add_argument("--billing", choices=BILLINGS, help="default: as NODES says")
    parser.add_argument(
        "--quantum",
        type=float,
        metavar="S",
        help="seconds to which a hold is rounded up",
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default="free",
        help="whether transfers don't compete, or each node sends and receives one at "
        "a time; default: free",
    )
    parser.add_argument("--out", metavar="FILE", help="write the plan as JSON there")
    add_json(parser)
    _add_aims(parser.add_argument_group("what is minimised"))
    _add_effort(parser.add_argument_group("how long a better plan is searched for"))
    parser.set_defaults(func=run)


def _add_aims(group: Any) -> None:
    group.add_argument(
        "--deadline",
        type=_seconds,
        metavar="S|1.5x",
        help="least money that keeps it: seconds, '10 min', or a factor of the "
        "fastest plan (allocator cost)",
    )
    group.add_argument(
        "--budget",
        type=float,
        metavar="X",
        help="least time for this money (allocator cost)",
    )
    group.add_argument(
        "--tradeoff",
        type=int,
        metavar="N",
        help="up to N plans, from the fastest to the cheapest (allocator cost)",
    )
    group.add_argument(
        "--by",
        choices=("money", "energy"),
        help="what is saved; a budget for energy is in watt seconds (allocator cost)",
    )
    group.add_argument(
        "--objective",
        dest="weights",
        type=_weights,
        metavar="NAME=W,...",
        help="least weighted sum of makespan, money, energy and transfer "
        "(allocator objective)",
    )


def _add_effort(group: Any) -> None:
    group.add_argument(
        "--time-budget", type=float, metavar="S", help="CPU seconds; 0 is none"
    )
    group.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="so many moves instead: the plan then depends on the seed alone",
    )
    group.add_argument("--seed", type=int, metavar="N", help="of the search")


def _seconds(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # a factor, or with a unit


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            value = float(weight)
        except ValueError:
            raise ArgumentTypeError(
                f"{part!r} is not NAME=WEIGHT, such as makespan=1"
            ) from None
        if name.strip() in weights:
            raise ArgumentTypeError(f"{name.strip()!r} has two weights")
        weights[name.strip()] = value
    return weights


def run(args: Namespace) -> int:
    """Plan, and print the plan or the plans."""
    chosen = _allocator(args)
    graph = load_workflow(args.workflow)
    cluster = read_nodes(args.nodes, billing=args.billing, quantum=args.quantum)
    if args.tradeoff is None:
        doc = plan_to_dict(plan(graph, cluster, chosen, args.network))
        text = summary(doc, cluster)
    else:
        problem = Problem(graph, cluster, network=args.network)
        doc = {"plans": [plan_to_dict(made) for made in allocate_all(problem, chosen)]}
        text = _curve(doc["plans"])
    if args.out:
        Path(args.out).write_text(json.dumps(doc) + "\n", encoding="utf-8")
    if args.json:
        print_json(doc)
    else:
        print(text)
    return OK


def _allocator(args: Namespace) -> str | Allocator:
    """The allocator of the options: its name, or made with those that are its fields.

    Raises
    ------
    BadUsageError
        If an option is given that the allocator has no field for.
    """
    given = {key: getattr(args, key) for key in OPTIONS}
    given = {key: value for key, value in given.items() if value is not None}
    implied = [OPTIONS[key][1] for key in given if OPTIONS[key][1]]
    name = args.allocator or (implied[0] if implied else "time") or "time"
    if not given:
        return name
    try:
        return allocator(name, **given)
    except AllocationError as error:
        if isinstance(error.__cause__, TypeError):
            _refuse(name, given)
        raise


def _refuse(name: str, given: dict[str, Any]) -> None:
    plain = allocator(name)
    for key in given:
        if not hasattr(plain, key):
            able = [other for other in TABLE if hasattr(allocator(other), key)]
            raise BadUsageError(
                f"{OPTIONS[key][0]} is no parameter of allocator {name}, but of "
                + ", ".join(able)
            )


def _curve(docs: list[dict[str, Any]]) -> str:
    """Plans along the trade-off for people: a line for each, then what is common."""
    energy = any(doc["energy"] for doc in docs)
    head = ("plan", "makespan [s]", "money", "energy [W s]", "moved [MB]", "nodes used")
    rows: list[tuple[str, ...]] = [head]
    for number, doc in enumerate(docs, 1):
        sums = [doc[key] for key in ("makespan", "money", "energy", "transferred")]
        used = len({row["node"] for row in doc["schedule"]})
        rows.append((str(number), *(f"{x:.6g}" for x in sums), str(used)))
    shown = [[*row[:3], *row[3 if energy else 4 :]] for row in rows]
    return "\n".join([*table(shown), "", *notes(docs[0])])
