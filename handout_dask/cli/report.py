"""``handout report``: what became of a run, from the file that ``run.save`` wrote."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from handout_dask.cli.common import OK, BadUsageError, add_json, print_json, read_json
from handout_dask.errors import GraphError
from handout_dask.report import Report

ENDINGS = (".html", ".json", ".txt")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="show what became of a saved run")
    parser.add_argument(
        "run", metavar="RUN", help="file that run.save wrote; .json is the open format"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write it to a page (.html), as JSON (.json) or as text (.txt)",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="also what another user wrote, who then can do what you can; for .json "
        "this is never needed",
    )
    add_json(parser)
    parser.set_defaults(func=run)


def run(args: Namespace) -> int:
    """Print the report, or write it to a file."""
    check_output(args.output)
    report, status, name, made = _read(args.run, args.trust)
    if args.output is not None:
        write(args.output, report, status, name, made)
    if args.json:
        print_json({"run": name, "status": status, **report.as_dict()})
    elif args.output is None:
        print(f"run {name}: {status}\n{report}")
    else:
        print(f"wrote {args.output}")
    return OK


def check_output(path: str | None) -> None:
    """Refuse, before anything is done, what a report can't be written as."""
    if path is None:
        return
    if not path.endswith(ENDINGS):
        raise BadUsageError(
            f"a report can't be written as {path!r}; its name may end in "
            + ", ".join(ENDINGS)
        )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise BadUsageError(f"{path}: there is no folder {folder!r}")


def write(
    path: str, report: Report, status: str, name: str, made: Mapping[str, str] | None
) -> None:
    """Write a report as the name of the file says."""
    if path.endswith(".html"):
        from handout_dask.dashboard.pagefile import write_report

        write_report(report, path, status, name, made)
    else:
        report.write(path)


def _read(path: str, trust: bool) -> tuple[Report, str, str, Any]:
    if path == "-" or path.endswith(".json"):
        from handout_dask.formats.runfile import run_from_dict

        try:
            report, name, status, made = run_from_dict(read_json(path))
        except GraphError as error:
            raise GraphError(f"{path}: {error}") from error
        return report, status, name, made
    from handout_dask.runtime.run import Run

    if os.getcwd() not in sys.path:  # where the workflow's module may be
        sys.path.insert(0, os.getcwd())
    saved = Run.load(path, trust=trust)
    return saved.report(), saved.status, saved.token, saved.environment
