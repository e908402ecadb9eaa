"""Portrait: a run as its client knows it, as a Picture: nothing is asked of anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from handout_dask.events import DONE, FAILED
from handout_dask.picture import STATES, Picture
from handout_dask.report import Report
from handout_dask.runtime.failures import BLOCKED, GONE

ENDS = {DONE: "done", FAILED: "failed", BLOCKED: "blocked", GONE: "cancelled"}


def portrait(report: Report, status: str, name: str, ends: Sequence[str]) -> Picture:
    """What there is to see of a run.

    Parameters
    ----------
    report : Report
        What happened up to now.
    status, name : str
        How it stands; its token.
    ends : sequence of n str
        How each function ended; "" if it has not.
    """
    picture = Picture.of_report(report, status, name)
    code = {end: STATES.index(state) for end, state in ENDS.items()}
    told = np.array([code.get(end, -1) for end in ends], dtype=np.int64)
    state = np.where(told >= 0, told, picture.state).astype(np.uint8)
    return replace(picture, state=state)
