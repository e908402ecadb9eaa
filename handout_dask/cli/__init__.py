"""The command ``handout``: parses, calls one module a command, turns errors into codes.

A command is a module of this folder with ``add(subparsers)``, which adds a parser and
sets its default ``func``: arguments in, exit code out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from handout_dask.cli.common import INTERRUPTED, BadUsageError, report_error
from handout_dask.errors import HandoutError

COMMANDS = ("demo", "plan", "simulate", "run", "resume", "nodes", "report", "top")


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments, instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        raise BadUsageError(f"{message}\n{self.format_usage().rstrip()}")


def parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    made = _Parser(prog="handout", description="Plan task graphs and run them by plan.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"{__name__}.{name}").add(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default: those of the process.

    Returns
    -------
    int
        0 ok, 1 a function failed, 2 bad input, 3 unsatisfiable, 130 interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parser().parse_args(argv)
        code: int = args.func(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (HandoutError, OSError) as error:
        return report_error(error, as_json="--json" in argv)
    except KeyboardInterrupt:
        print("handout: interrupted", file=sys.stderr)
        return INTERRUPTED
