"""Cases: what is known of a function that was set back. Pure; written by `recovery`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from handout_dask.setbacks import RESCHEDULED, Attempt, Exit, Member, Tried

MORE = 1.01  # times as much: more memory by less is none


@dataclass(slots=True)
class Case:
    """What is known of a function that was set back.

    Attributes
    ----------
    attempts : list of Attempt
        Every try that did not deliver.
    charged : dict of str to int
        Failures by budget: of its own exceptions, of memory, of crashes, unexplained.
    suspected : dict of str to int
        Deaths of nodes where it was not alone, by their cause.
    bad : dict of str to None
        Nodes where it failed, the worst last.
    alone : bool
        Whether it is to run alone on its node.
    number : int
        The last attempt that was decided on, or is held.
    quarantine : float or None
        Seconds for which its policy leaves out a node.
    options : set of int
        The cost alternatives as which it ran.
    """

    attempts: list[Attempt] = field(default_factory=list)
    charged: dict[str, int] = field(default_factory=dict)
    suspected: dict[str, int] = field(default_factory=dict)
    bad: dict[str, None] = field(default_factory=dict)
    alone: bool = False
    number: int = 0
    quarantine: float | None = None
    options: set[int] = field(default_factory=set)

    def charge(self, what: str, count: int = 1) -> int:
        """Charge a failure; returns how many there are now."""
        self.charged[what] = self.charged.get(what, 0) + count
        return self.charged[what]

    def other(self, tried: Tried) -> int | None:
        """A cost alternative as which it was not tried yet; None if there is none."""
        if not tried.policy.variants:
            return None
        return next((k for k in tried.others if k not in self.options), None)

    @property
    def failures(self) -> int:
        """How many were charged in all, but for those that only asked to run again."""
        return sum(self.charged.values()) - self.charged.get(RESCHEDULED, 0)


@dataclass(frozen=True, slots=True)
class Death:
    """A node that died, of which it is not known yet why."""

    node: str
    tried: tuple[Tried, ...]
    at: float
    filled: bool
    company: int


@dataclass(slots=True)
class Record:
    """How functions fared on a node of late."""

    struck: dict[Member, float] = field(default_factory=dict)  # since when
    succeeded: int = 0


def grown(tried: Tried, allowed: float, used: float) -> float | None:
    """The memory [MB] that a function claims next; None if there is no more for it.

    Parameters
    ----------
    tried : Tried
        The function.
    allowed : float
        What it could have [MB] beside what it claims, and was too little.
    used : float
        What it held [MB]; 0 is unknown.

    Examples
    --------
    >>> from handout_dask.retry import RetryPolicy
    >>> attempt = Attempt(1, "n0", 0.0, 1.0)
    >>> tried = Tried(("t", 0), "'f'", RetryPolicy(), attempt, 100.0, 500.0)
    >>> [grown(tried, 0.0, 0.0), grown(tried, 0.0, 150.0), grown(tried, 500.0, 0.0)]
    [200.0, 300.0, None]
    """
    had = max(tried.claim, allowed)
    held = max(had, used)
    wanted = min(tried.policy.memory_factor * held if held else inf, tried.most)
    return wanted if had * MORE < wanted < inf else None


def attempts_text(case: Case) -> str:
    """Every try that did not deliver."""
    return f"attempts: {'; '.join(map(str, case.attempts))}"


def crash_text(case: Case, tried: Tried, count: int, exit: Exit) -> str:
    """That a function has crashed too often, the last time so."""
    said = f"\nits last words:\n{exit.stderr.rstrip()}" if exit.stderr.strip() else ""
    return (
        f"function {tried.label} crashed its node {count} times, the last time "
        f"{tried.attempt.node!r}, which {exit}; {attempts_text(case)}{said}"
    )


def memory_text(
    case: Case, tried: Tried, used: float, limit: float, is_most: bool
) -> str:
    """That a function has taken too much memory too often."""
    claimed = f"; it claimed {tried.claim:.0f} MB" if tried.claim else ""
    more = ", and no node has more for it" if is_most else ""
    return (
        f"function {tried.label} took more memory than its node "
        f"{tried.attempt.node!r} has: {used:.0f} of {limit:.0f} MB{claimed}{more}; "
        f"{attempts_text(case)}"
    )
