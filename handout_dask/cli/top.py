"""``handout top``: nodes and runs of a cluster, live in the terminal; read-only."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentTypeError, Namespace
from time import localtime, sleep, strftime
from typing import Any

from handout_dask.cli.common import OK, BadUsageError, add_json, print_json
from handout_dask.cli.screen import frame

BEGIN, END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # a screen of its own
HOME, REST, DOWN = "\x1b[H", "\x1b[K", "\x1b[J"
LEAST = 0.2  # s between two looks


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("top", help="show nodes and runs of a cluster, live")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler; default: DASK_SCHEDULER_ADDRESS",
    )
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="between two looks; default: 1",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print what there is now; also what is done where there is no terminal",
    )
    add_json(parser)
    parser.set_defaults(func=run)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not LEAST <= value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number of seconds from {LEAST} on")
    return value


def run(args: Namespace) -> int:
    """Show a frame, or one after the other until Ctrl-C."""
    address = args.cluster or _configured()
    if not address:
        raise BadUsageError(
            "which cluster? --cluster ADDRESS, or set DASK_SCHEDULER_ADDRESS; `handout "
            "run` and Executor.dashboard_link tell of a cluster that they start"
        )
    from handout_dask.runtime.overview import Onlooker

    with Onlooker(address) as onlooker:
        if args.json:
            print_json({"cluster": address, **onlooker.look()})
        elif args.once or not sys.stdout.isatty():
            width = shutil.get_terminal_size((120, 40)).columns
            print("\n".join(frame(onlooker.look(), _head(address), width)))
        else:
            _live(onlooker, address, args.interval)
    return OK


def _configured() -> str:
    """The scheduler that Dask is configured to use."""
    import dask

    return str(dask.config.get("scheduler-address", None) or "")


def _head(address: str) -> str:
    return f"handout top   {address}   {strftime('%H:%M:%S', localtime())}"


def _live(onlooker: Any, address: str, interval: float) -> None:
    write = sys.stdout.write
    write(BEGIN)
    try:
        while True:
            doc = onlooker.look()
            width, height = shutil.get_terminal_size((120, 40))
            lines = frame(doc, _head(address), width, height)
            write(HOME + "\n".join(line + REST for line in lines) + DOWN)
            sys.stdout.flush()
            sleep(interval)
    finally:
        write(END)
        sys.stdout.flush()
