"""Restarts: which child that ended is started again, and when that is given up. Pure.

Children end one for one, as in an OTP supervisor: what happens to one concerns the
others only where a policy counts them together. Knows no clock, and no processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from signal import Signals
from typing import Any

from handout_dask.errors import HandoutError

KINDS = ("permanent", "transient", "temporary")
SCOPES = ("node", "all")

# How a child ended.
ASKED, DIED, FAILED, CUT = "asked", "died", "failed", "cut"
HOWS = (ASKED, DIED, FAILED, CUT)

# In what state a child is.
UP, RESTARTING, ENDED, GIVEN_UP = "up", "restarting", "ended", "given up"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a node that ended is started again, and when it is given up.

    Parameters
    ----------
    max_restarts : int or None
        Restarts within `within`; the next end is one too many, and what ended is given
        up. None is no limit.
    within : float
        Seconds.
    kind : {"permanent", "transient", "temporary"}
        Started again always; if nobody asked it to end; never.
    scope : {"node", "all"}
        Whose restarts are counted together, and what is given up: each node alone, or
        all nodes, and the supervisor with them.

    Raises
    ------
    HandoutError
        If a value makes no sense.

    Notes
    -----
    The names are those of Erlang's supervisors (OTP design principles, chapter
    "Supervisor Behaviour"). There all children are counted together; here nodes are
    many, and losing one is no reason to end those that do well.

    A node that only lost its scheduler is started again without being counted.
    """

    max_restarts: int | None = 3
    within: float = 60.0
    kind: str = field(default="transient", kw_only=True)
    scope: str = field(default="node", kw_only=True)

    def __post_init__(self) -> None:
        most = self.max_restarts
        if most is not None and (type(most) is not int or most < 0):
            raise HandoutError(
                f"RestartPolicy: max_restarts={most!r} must be an integer, at least 0, "
                "or None for no limit"
            )
        span: Any = self.within
        ok = isinstance(span, Real) and not isinstance(span, bool)
        if not ok or not 0 < span < float("inf"):
            raise HandoutError(
                f"RestartPolicy: within={span!r} must be a number of seconds above 0"
            )
        object.__setattr__(self, "within", float(span))
        for what, known in (("kind", KINDS), ("scope", SCOPES)):
            given = getattr(self, what)
            if given not in known:
                raise HandoutError(
                    f"RestartPolicy: {what}={given!r} must be one of {known}"
                )


@dataclass(frozen=True, slots=True)
class Exit:
    """A child ended.

    Attributes
    ----------
    name : str
        Which.
    time : float
        When, by the clock [s].
    how : {"asked", "died", "failed", "cut"}
        It was asked to; it died; it could not start; it lost its scheduler.
    code : int or None
        Exit code of its process; below 0 is the signal that killed it.
    pid : int or None
        Of the process that ended.
    text : str
        What more is known.
    """

    name: str
    time: float
    how: str
    code: int | None = None
    pid: int | None = None
    text: str = ""

    def __str__(self) -> str:
        process = "" if self.pid is None else f" (process {self.pid})"
        more = f": {self.text}" if self.text else ""
        return f"{self.name}{process} {_what_happened(self)}{more}"


def _what_happened(exit: Exit) -> str:
    if exit.how == ASKED:
        return "was asked to end"
    if exit.how == CUT:
        return "lost its scheduler"
    if exit.how == FAILED:
        return "could not start"
    if exit.code is None:
        return "died"
    if exit.code >= 0:
        return f"exited with code {exit.code}"
    try:
        return f"was killed by {Signals(-exit.code).name}"
    except ValueError:
        return f"was killed by signal {-exit.code}"


@dataclass(frozen=True, slots=True)
class Restart:
    """A decision: start this child again."""

    name: str


@dataclass(frozen=True, slots=True)
class Leave:
    """A decision: this child has ended, and stays so."""

    name: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A decision: these are given up, in this order.

    Attributes
    ----------
    names : tuple of str
        The one that ended, or all, the last first.
    exits : tuple of Exit
        What was too much.
    why : str
        The same for people.
    """

    names: tuple[str, ...]
    exits: tuple[Exit, ...]
    why: str


Decision = Restart | Leave | GiveUp


@dataclass(slots=True)
class Child:
    """One child; written by Restarts only.

    Attributes
    ----------
    policy : RestartPolicy
        When it is started again.
    state : str
        "up", "restarting", "ended" or "given up".
    restarts : int
        How often it was started again, ever.
    charged : list of Exit
        What counts, as far as it may still matter.
    last : Exit or None
        How it ended last.
    """

    policy: RestartPolicy
    state: str = UP
    restarts: int = 0
    charged: list[Exit] = field(default_factory=list)
    last: Exit | None = None


class Restarts:
    """The children of one supervisor, and what is decided when one ends.

    Attributes
    ----------
    children : dict
        `Child` by name, in the order in which they were started.
    """

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}

    def add(self, name: str, policy: RestartPolicy) -> None:
        """A child is started; what happened to one of that name before is past."""
        self.children[name] = Child(policy)

    def remove(self, name: str) -> None:
        """A child is no longer ours."""
        self.children.pop(name, None)

    def is_up(self, name: str) -> None:
        """A child has started again; one that was given up gets a new chance."""
        child = self.children.get(name)
        if child is not None:
            if child.state == GIVEN_UP:
                child.charged.clear()
            child.state = UP

    def ended(self, exit: Exit) -> Decision:
        """What to do about a child that ended."""
        child = self.children.get(exit.name)
        if child is None:
            return Leave(exit.name)
        child.last = exit
        if child.state == GIVEN_UP:
            return Leave(exit.name)
        kind = child.policy.kind
        if kind == "temporary" or (kind == "transient" and exit.how == ASKED):
            child.state = ENDED
            return Leave(exit.name)
        if exit.how != CUT:
            child.charged.append(exit)
            counted = self._counted(child, exit.time)
            most = child.policy.max_restarts
            if most is not None and len(counted) > most:
                return self._give_up(exit.name, child, counted)
        child.state = RESTARTING
        child.restarts += 1
        return Restart(exit.name)

    def _counted(self, child: Child, now: float) -> list[Exit]:
        """The ends that count together with this child's last, the oldest first."""
        together = [child]
        if child.policy.scope == "all":
            together = [c for c in self.children.values() if c.policy.scope == "all"]
        for other in together:
            horizon = now - other.policy.within
            other.charged = [x for x in other.charged if x.time >= horizon]
        since = now - child.policy.within
        found = [x for c in together for x in c.charged if x.time >= since]
        return sorted(found, key=lambda x: x.time)

    def _give_up(self, name: str, child: Child, exits: list[Exit]) -> GiveUp:
        names = [name]
        if child.policy.scope == "all":
            names = [*reversed(self.children)]
        for other in names:
            self.children[other].state = GIVEN_UP
        return GiveUp(tuple(names), tuple(exits), _why(child.policy, exits))


def _why(policy: RestartPolicy, exits: list[Exit]) -> str:
    last = exits[-1].time
    told = "; ".join(
        str(x) if x.time == last else f"{x}, {last - x.time:.1f} s before"
        for x in exits[-5:]
    )
    more = "" if len(exits) <= 5 else f" (the last 5 of {len(exits)})"
    return (
        f"more than {policy.max_restarts} restarts within {policy.within:g} s are not "
        f"allowed, and this would be number {len(exits)}: {told}{more}"
    )


def policies_of(given: Any, names: Iterable[str]) -> dict[str, RestartPolicy]:
    """The policy of each child, as a user gave them.

    Parameters
    ----------
    given : RestartPolicy, mapping, or None
        One for all; or by name, where those that are not named get the default.
    names : iterable of str
        The children.
    """
    known = [*names]
    if given is None:
        given = RestartPolicy()
    if isinstance(given, RestartPolicy):
        return dict.fromkeys(known, given)
    if not isinstance(given, dict):
        raise HandoutError(
            f"restart={given!r} must be a RestartPolicy, or a dict of them by node"
        )
    for name, policy in given.items():
        if name not in known:
            raise HandoutError(
                f"restart: there is no node {name!r}; there are {', '.join(known[:5])}"
            )
        if not isinstance(policy, RestartPolicy):
            raise HandoutError(f"restart: {policy!r} of {name!r} is no RestartPolicy")
    return {name: given.get(name, RestartPolicy()) for name in known}
