"""Write pages to files: the clock and the disk that pages don't know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from handout_dask.environment import environment
from handout_dask.report import Report


def write_report(
    report: Report,
    path: Any,
    status: str = "",
    name: str = "",
    made: Mapping[str, str] | None = None,
) -> None:
    """Write a report as a page: one file that needs no network.

    Parameters
    ----------
    report : Report
        What happened.
    path : path
        The file.
    status, name : str
        Of the run, if it was one.
    made : mapping, optional
        With which versions the run was made, if it was saved; default: those here.
    """
    from handout_dask.dashboard.offline import report_page

    now = environment(datetime.now().astimezone())
    page = report_page(report, made or now, status, name)
    Path(path).write_text(page, encoding="utf-8")
