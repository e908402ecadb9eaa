"""Explaining: where functions of live runs stand, asked by clients.

The scheduler's side reads the books; the client's adds what the plan says, and what it
was told itself of a run that the scheduler has closed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from distributed import Client, Scheduler
from distributed.protocol import pickle

from handout_dask.dispatch import Dispatcher
from handout_dask.events import Span
from handout_dask.explanation import PlanExplanation
from handout_dask.plans import Plan
from handout_dask.runtime.calling import text_of
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.records import LiveRun
from handout_dask.standing import Standing
from handout_dask.waiting import Asked

HOW = {"done": "done", "failed": "failed", "blocked": "failed", "gone": "cancelled"}


@dataclass(frozen=True, slots=True)
class RunExplanation:
    """Where a function of a run stands, and why its plan had it where it did.

    Attributes
    ----------
    function : hashable
        Its id.
    standing : Standing
        Where it stands now; times count from when the run began.
    error : str
        Why it has no result, if it ended without one; "" otherwise.
    planned : PlanExplanation
        Why the run's first plan has it where and when it does.
    """

    function: Hashable
    standing: Standing
    error: str
    planned: PlanExplanation

    def __str__(self) -> str:
        error = f"\n  {self.error}" if self.error else ""
        return f"{self.standing}{error}\nas first planned, {self.planned}"


class Explainer:
    """Answers the RPC ``handout_explain``.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose RPC it is.
    dispatcher, runs, inputs, address : Dispatcher, dict, Inputs, dict
        The books; live runs by token; how far inputs are; addresses by name of node.
    is_running : callable
        Whether a node, by name, takes work.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        inputs: Inputs,
        address: dict[str, str],
        is_running: Callable[[str], bool],
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._inputs, self._address = inputs, address
        self._is_running = is_running
        scheduler.handlers["handout_explain"] = self.rpc_explain

    def stop(self) -> None:
        """Answer no more."""
        self._scheduler.handlers.pop("handout_explain", None)

    async def rpc_explain(self, token: str, i: int) -> bytes | None:
        """A pickled Standing; None if the run is not live."""
        if token not in self._dispatcher.runs:
            return None
        self._dispatcher.now = time()
        asked = Asked(self._dispatcher, token, i, self._is_running)
        return bytes(pickle.dumps(asked.standing(self._arrives)))

    def _arrives(self, token: str, i: int, name: str) -> float:
        key = self._runs[token].key(i)
        if key not in self._scheduler.tasks or name not in self._address:
            return 0.0
        return self._inputs.arrives(key, self._address[name])


async def explain_run(
    client: Client, token: str, plan: Plan, i: int, known: Standing,
    fault: Exception | None,
) -> RunExplanation:  # fmt: skip
    """What the scheduler says of function i of a run; else what is `known` of it."""
    id = plan.problem.functions[i].id
    found = await client.scheduler.handout_explain(token=token, i=i)
    standing: Standing = known if found is None else pickle.loads(found)
    error = "" if fault is None else f"{type(fault).__name__}: {text_of(fault)}"
    return RunExplanation(id, standing, error, plan.explain(id))


def told(plan: Plan, i: int, state: str, spans: Sequence[Span]) -> Standing:
    """Where a function stands by what was told of it, whose run is not live."""
    id: Any = plan.problem.functions[i].id
    label, how = plan.problem.outline.labels[i], HOW.get(state, "cancelled")
    for span in reversed(spans):
        if span.function is id:  # what == means is the user's
            return Standing(label, how, span.node, span.start, span.end)
    planned = plan[id]
    return Standing(label, how, planned.node, planned.start, planned.end)
