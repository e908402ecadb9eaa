"""Explanation: why a function is where it is, or why a node refuses it; text and data.

Knows problems and plans; decides nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from handout_dask.errors import GraphError
from handout_dask.estimates import LEARNED
from handout_dask.lacks import MOST
from handout_dask.offers import Offer, Offers
from handout_dask.plans import Plan
from handout_dask.problem import Lack, Problem
from handout_dask.provenance import provenance_text


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a function can run, and why not elsewhere.

    Attributes
    ----------
    function : hashable
        Its id.
    fits : tuple of str
        Nodes that can run it.
    refusals : mapping
        ``{node: (Lack, ...)}`` for the others.
    planned : str or None
        The node that the allocator would choose; None if there is no plan.
    """

    function: Hashable
    fits: tuple[str, ...]
    refusals: Mapping[str, tuple[Lack, ...]]
    planned: str | None

    def __str__(self) -> str:
        lines = [f"function {self.function!r}"]
        for name in self.fits:
            chosen = " (planned)" if name == self.planned else ""
            lines.append(f"  {name}: can run it{chosen}")
        for name, lacks in self.refusals.items():
            lines.append(f"  {name}: {', '.join(map(str, lacks))}")
        return "\n".join(lines)


def explain(problem: Problem, id: Hashable, planned: str | None = None) -> Explanation:
    """Where the problem's function `id` can run; `planned` is where it shall."""
    refusals = problem.refusals(problem.where[id])
    fits = tuple(n.name for n in problem.nodes if n.name not in refusals)
    return Explanation(id, fits, refusals, planned)


@dataclass(frozen=True, slots=True)
class PlanExplanation:
    """Why a plan runs a function where and when it does.

    Attributes
    ----------
    function : hashable
        Its id.
    chosen : Offer
        What the plan does.
    because : str
        What its start is bound by; "begins" if nothing.
    slack : float
        By how much its end can slip [s] without the makespan growing.
    critical : bool
        Whether it is on the plan's critical path.
    guessed : bool
        Whether its run time is a guess.
    provenance : mapping
        ``{"time": source, "memory": source, "size": source}``: whether its estimates
        are "declared", "learned" or "guessed".
    others : tuple of Offer
        What the other nodes that can run it would give, earliest end first.
    refusals : mapping
        ``{node: (Lack, ...)}`` for those that can't, be it for a function that must
        share its node.
    """

    function: Hashable
    chosen: Offer
    because: str
    slack: float
    critical: bool
    guessed: bool
    provenance: Mapping[str, str]
    others: tuple[Offer, ...]
    refusals: Mapping[str, tuple[Lack, ...]]

    @property
    def waits(self) -> str:
        """Why it waits for its node while another could start it; "" if none could."""
        at = self.chosen
        other = next((o for o in self.others if o.start < at.start), None)
        if other is None:
            return ""
        when = {-1: "earlier", 0: "no earlier", 1: "later"}
        end = when[(other.end > at.end) - (other.end < at.end)]
        return (
            f"waits for {at.node} until {at.start:.6g} s; {other.node} would end {end} "
            f"({other.end:.6g} s)"
        )

    def __str__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> Iterator[str]:
        at = self.chosen
        guess = ", by a guess of its run time" if self.guessed else ""
        yield (
            f"function {self.function!r} runs on {at.node} from {at.start:.6g} to "
            f"{at.end:.6g} s{guess}"
        )
        begins = self.because == "begins"
        yield "nothing holds it back" if begins else f"bound by {self.because}"
        path = "is on the critical path" if self.critical else "has no slack"
        yield f"can end {self.slack:.6g} s later" if self.slack else path
        if self.waits:
            yield self.waits
        if LEARNED in self.provenance.values():
            yield f"estimates: {provenance_text(self.provenance)}"
        for offer in (at, *self.others[:MOST]):
            yield self._row(offer)
        if len(self.others) > MOST:
            yield f"... and {len(self.others) - MOST} more nodes can run it"
        for name, lacks in [*self.refusals.items()][:MOST]:
            yield f"{name}: {', '.join(map(str, lacks))}"
        if len(self.refusals) > MOST:
            yield f"... and {len(self.refusals) - MOST} more nodes can't"

    def _row(self, offer: Offer) -> str:
        if offer.end == np.inf:
            return f"{offer.node}: no room, for what is held there does not end"
        chosen = " (planned)" if offer is self.chosen else ""
        met = offer.makespan == np.inf
        return (
            f"{offer.node}{chosen}: {offer.start:.6g} to {offer.end:.6g} s, "
            + (
                "too late for what is held"
                if met
                else f"makespan {offer.makespan:.6g} s"
            )
            + f", money {offer.money:.6g}, reads {offer.mb:.6g} MB"
        )


def explain_plan(plan: Plan, id: Hashable) -> PlanExplanation:
    """Why the plan, which is valid, runs function `id` where and when it does.

    Raises
    ------
    GraphError
        If the plan has no such function.
    """
    try:
        i = plan.problem.where[id]
    except (KeyError, TypeError):
        raise GraphError(f"no function {id!r} in {plan!r}") from None
    offers = Offers(plan, i)
    refusals = {**offers.refused_by_mates(), **plan.problem.refusals(i)}
    names = [node.name for node in plan.problem.nodes]
    others = [
        offers.elsewhere(j)
        for j, name in enumerate(names)
        if name not in refusals and j != offers.here
    ]
    return PlanExplanation(
        id,
        offers.as_planned(),
        plan.precedence.because(i),
        float(plan.slack[i]),
        i in plan.precedence.critical(),
        bool(plan.guessed[i]),
        plan.provenance(id),
        tuple(sorted(others, key=lambda offer: offer.end)),
        refusals,
    )
