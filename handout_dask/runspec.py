"""What the scheduler is told of a planned run, once. Pure data; it never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from handout_dask.outline import Outline
from handout_dask.pins import DEFAULT, OnLost
from handout_dask.retry import RetryPolicy

ONCE = RetryPolicy()


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What the scheduler has to know of a planned run; n functions, c classes.

    Attributes
    ----------
    token : str
        Names the run.
    prefix : list of str
        The Dask key of function i is (prefix[i], i).
    cut_prefix : str
        Keys of the elements that are cut out of results are (this, number).
    node : list of str
        n planned nodes, by name.
    rank : list of int
        n places in the planned order of execution.
    need : list of int
        n classes.
    demand : list of dict
        c demands held while running, with ``cpu``.
    able : list of frozenset of str
        c sets of nodes that can run the class.
    pinned : frozenset of int
        Functions that may not leave their node.
    group : dict of int to tuple of int
        Functions that must share a node, by each of them.
    start, end : list of float
        n planned times [s].
    cuts : frozenset of int
        Functions whose results other nodes need elements of.
    guessed : bytes
        n flags: whether the time of the function is a guess; b"" is none.
    latest : list of float or None
        n latest starts [s] that make nothing else late; None: as planned.
    limit : int or None
        How many functions may run at once.
    adaptive : bool
        Whether the plan is left when reality differs.
    priority, weight : int, float
        Runs of higher priority go first; equal ones share nodes by weight.
    outline : Outline or None
        What planning again needs.
    option : sequence of int
        The alternative of each; () without an outline.
    fixed : bool
        Whether functions keep their nodes where they can when planned again.
    deadline : float or None
        Seconds since the run began, by which all shall have ended.
    speculative : bool
        Whether a function that runs late may begin anew on another node.
    eager : bool
        Whether what is ready goes to any node that has room, and waits for none.
    memory : dict of int to float
        Memory [MB] that functions claim, where that is more than they declare.
    known : History or None
        What the client has learned of these functions.
    grace : float or None
        Seconds that a thread may go on with a function of the run after it was
        cancelled, before its worker is started anew; None: for ever.
    on_lost : OnLost
        What bound functions do when their node is gone.
    lost : dict of int to OnLost
        Ditto, of bound functions that say so themselves.
    retry : RetryPolicy
        How failures of functions are answered.
    retries : dict of int to RetryPolicy
        Ditto, of functions that say so themselves.
    crashes : dict of int to (int, bool)
        How often functions of a resumed run have crashed before, and whether they are
        to run alone.
    stops : bool
        Whether all ends when a function has failed.
    """

    token: str
    prefix: list[str]
    cut_prefix: str
    node: list[str]
    rank: list[int]
    need: list[int]
    demand: list[dict[str, float]]
    able: list[frozenset[str]]
    pinned: frozenset[int]
    group: dict[int, tuple[int, ...]]
    start: list[float]
    end: list[float]
    cuts: frozenset[int]
    guessed: bytes = b""
    latest: list[float] | None = None
    limit: int | None = None
    adaptive: bool = True
    priority: int = 0
    weight: float = 1.0
    outline: Outline | None = None
    option: Sequence[int] = ()
    fixed: bool = False
    deadline: float | None = None
    speculative: bool = False
    eager: bool = False
    memory: dict[int, float] = field(default_factory=dict)
    known: Any = None
    grace: float | None = None
    on_lost: OnLost = DEFAULT
    lost: dict[int, OnLost] = field(default_factory=dict)
    retry: RetryPolicy = ONCE
    retries: dict[int, RetryPolicy] = field(default_factory=dict)
    crashes: dict[int, tuple[int, bool]] = field(default_factory=dict)
    stops: bool = False

    def when_lost(self, i: int) -> OnLost:
        """What function i does when its node is gone, if it is bound to that."""
        return self.lost.get(i, self.on_lost)

    def policy(self, i: int) -> RetryPolicy:
        """How failures of function i are answered."""
        return self.retries.get(i, self.retry)
