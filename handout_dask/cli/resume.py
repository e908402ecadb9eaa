"""``handout resume``: go on with a run of which nothing is left but its journal."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import Any

from handout_dask.cli.common import add_json
from handout_dask.cli.live import finish, follow, show_plan


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "resume", help="go on with a run that `handout run --journal` began"
    )
    parser.add_argument("run", metavar="RUN", help="what `handout run` showed as run")
    parser.add_argument(
        "--journal", metavar="FOLDER", help="or URL; default: those used on this host"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler; default: start the nodes on this host",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="also what another user wrote, who then can do what you can",
    )
    add_json(parser)
    parser.set_defaults(func=run)


def run(args: Namespace) -> int:
    """Go on, show progress, and print what happened against the plan."""
    from handout_dask.runtime.continuing import resume

    if os.getcwd() not in sys.path:  # where the workflow's module may be
        sys.path.insert(0, os.getcwd())
    made = resume(
        args.run, journal=args.journal, cluster=args.cluster, trust=args.trust
    )
    with made.executor:
        if not args.json:
            show_plan(made)
            print(f"restored       {len(made.restored)} of {len(made)} results\n")
            follow(made)
        else:
            made.wait()
        return finish(made, args.json, restored=len(made.restored))
