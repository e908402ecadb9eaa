"""What `run` and `demo` share: showing a live run, and its plan against it."""

from __future__ import annotations

import sys
from typing import Any

from handout_dask.cli.common import FAILED, OK, print_json, summary, table
from handout_dask.events import DONE
from handout_dask.formats.planfile import id_to_json, plan_to_dict, schedule_row
from handout_dask.printable import printable


def follow(run: Any) -> None:
    """Show progress on standard error until the run ends; Ctrl-C cancels it."""
    try:
        run.show_progress(sys.stderr)
        run.wait()
    except BaseException:
        run.cancel()
        raise


def outcome(run: Any) -> dict[str, Any]:
    """What happened, in the format of plans, with what was planned beside it."""
    rows = [
        schedule_row(span.function, span.node, span.start, span.end)
        for span in sorted(run.spans, key=lambda span: span.start)
        if span.outcome == DONE
    ]
    failures = [
        {"task": id_to_json(span.function), "node": span.node, "error": span.error}
        for span in run.spans
        if span.outcome != DONE
    ]
    planned = plan_to_dict(run.plan)
    return {
        "schedule": rows,
        "makespan": run.makespan,
        "planned_makespan": planned["makespan"],
        "status": run.status,
        "failures": failures,
        "allocator": planned["allocator"],
        "workflow": planned["workflow"],
        "plan": planned,
    }


def against_plan(run: Any) -> str:
    """A line for each node: what was planned on it, and what happened."""
    head = ("node", "functions", "busy, planned [s]", "actual")
    rows = [(*head, "last end, planned [s]", "actual")]
    for node in run.plan.problem.nodes:
        planned = run.plan.on(node.name)
        actual = [span for span in run.spans if span.node == node.name]
        rows.append(
            (
                node.name,
                f"{len(actual)} of {len(planned)}",
                f"{sum(p.end - p.start for p in planned):.2f}",
                f"{sum(s.end - s.start for s in actual):.2f}",
                f"{max((p.end for p in planned), default=0.0):.2f}",
                f"{max((s.end for s in actual), default=0.0):.2f}",
            )
        )
    return "\n".join(table(rows))


def show_plan(run: Any) -> None:
    """The plan for people."""
    print(summary(plan_to_dict(run.plan), run.plan.problem.cluster))
    print()


def finish(run: Any, as_json: bool, **more: Any) -> int:
    """Print the outcome, with `more` in its JSON; the exit code."""
    if as_json:
        print_json({**outcome(run), **more})
    else:
        print(f"\n{against_plan(run)}")
        print(
            f"\nmakespan       {run.makespan:.3f} s, planned {run.plan.makespan:.3f} s"
        )
        for span in run.spans:
            if span.outcome != DONE:
                who = f"{printable(span.function)} on {printable(span.node)}"
                print(f"failed         {who}: {printable(span.error or '', 400)}")
    return OK if run.status == "done" else FAILED
