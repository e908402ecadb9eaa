"""Explanation: where a function can run, and why not elsewhere; as text and data."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from handout_dask.problem import Lack, Problem


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
