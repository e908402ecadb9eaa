"""Progress of a run: as numbers, and as lines on a stream."""

from __future__ import annotations

import time
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """How far a run is; what was cancelled counts as neither."""

    done: int
    failed: int
    total: int


async def show(run: Any, stream: Any) -> None:
    """Write a run's progress until it ends: in place on a terminal, else few lines."""
    live = stream.isatty()
    since, last = time.monotonic(), None
    while True:
        done, failed, total = run.progress
        text = f"{done} of {total} functions done"
        text += f", {failed} failed" * bool(failed)
        text += f", {time.monotonic() - since:.1f} s"
        ended = not run._left or bool(run._lost)
        if live:
            print(f"\r{text} ", end="\n" if ended else "", file=stream, flush=True)
        elif ended or last is None or (done + failed) * 10 // max(total, 1) > last:
            print(text, file=stream, flush=True)
            last = (done + failed) * 10 // max(total, 1)
        if ended:
            return
        left = run._left
        await run._until(lambda left=left: run._left < left)
