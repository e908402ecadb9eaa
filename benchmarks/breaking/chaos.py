"""Chaos: a graph, and what is done to its cluster while it runs, all from one seed.

The seed alone says which functions must fail, and how; whatever else happens, every
other function has to give what it would give on a quiet day. Pure: no clock, no IO.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

SECONDS = 20.0  # of breaking
FUNCTIONS = 200
NODES = ("n0", "n1", "n2", "n3")
JOINING = "x0"
HOST = {"n2": "w1", "n3": "w2"}  # those whose network can be cut
MEAN = 0.4  # s that a function runs, so that the graph takes as long as the breaking

# What functions do, and how often of a hundred.
PLAIN, RAISES, FAILS, NEVER, ONCE = "plain", "raises", "fails", "never", "once"
KINDS = {PLAIN: 84, RAISES: 10, FAILS: 3, NEVER: 2, ONCE: 1}
SOUND = 0.6  # share of the functions, from the first on, of which none must fail
TIMEOUT = 2.0  # s, of those that never end
AMPLE = 60.0  # s, of some that do

# What is done to nodes, and how often of a hundred.
KILL, FREEZE, FREEZE_NODE, CUT, OFF, JOIN = (
    "kill", "freeze", "freeze node", "cut", "switch off", "join",
)  # fmt: skip
DEEDS = {KILL: 40, FREEZE: 15, FREEZE_NODE: 10, CUT: 20, OFF: 10, JOIN: 5}
CUTS = ("both", "out", "in", "peers")


@dataclass(frozen=True, slots=True)
class Task:
    """A function.

    Attributes
    ----------
    id : str
        Its name.
    reads : tuple
        Producers, or (producer, 0) for an element of what it gives.
    kind : str
        What it does: of `KINDS`.
    seconds : float
        How long it runs if it ends.
    times : int
        How often it raises before it does not.
    attempts : int
        By its retry policy.
    node : str or None
        Where it is pinned.
    timeout : float or None
        Seconds.
    """

    id: str
    reads: tuple[Any, ...]
    kind: str
    seconds: float
    times: int = 0
    attempts: int = 1
    node: str | None = None
    timeout: float | None = None

    @property
    def producers(self) -> list[str]:
        """Whose results it reads."""
        return [read[0] if isinstance(read, tuple) else read for read in self.reads]


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """What is done to a node.

    Attributes
    ----------
    when : float
        Seconds since the run began.
    what : str
        Of `DEEDS`.
    who : str
        The node.
    seconds : float
        Until it is undone, where it can be.
    how : str
        Of a cut: of `CUTS`.
    """

    when: float
    what: str
    who: str
    seconds: float = 0.0
    how: str = ""

    def __str__(self) -> str:
        more = f" {self.how}" if self.how else ""
        span = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.when:5.1f} s: {self.what} {self.who}{more}{span}"


@dataclass(frozen=True, slots=True)
class Script:
    """All that a seed says.

    Attributes
    ----------
    seed : int
        The seed.
    tasks : tuple of Task
        In topological order.
    events : tuple of Event
        In order of time.
    """

    seed: int
    tasks: tuple[Task, ...]
    events: tuple[Event, ...]

    def must_fail(self) -> dict[str, str]:
        """Why each function that must fail does: the kind of its own error, or "".

        The empty text stands for those that read what another did not give.
        """
        out: dict[str, str] = {}
        for task in self.tasks:
            if any(read in out for read in task.producers):
                out[task.id] = ""
            elif task.kind == FAILS:
                out[task.id] = "ChaosError"
            elif task.kind == NEVER:
                out[task.id] = "FunctionTimeoutError"
        return out

    def answers(self) -> dict[str, int]:
        """What each function gives that does not fail."""
        failing = self.must_fail()
        out: dict[str, int] = {}
        for task in self.tasks:
            if task.id not in failing:
                out[task.id] = value(task.id, (out[u] for u in task.producers))
        return out


def value(id: Hashable, read: Iterable[int]) -> int:
    """What a function gives, so that each error in what it read shows."""
    own = sum((k + 1) * byte for k, byte in enumerate(str(id).encode()))
    return (own + sum((k + 2) * x for k, x in enumerate(read))) % 1_000_003


def script(
    seed: int,
    *,
    network: bool = True,
    functions: int = FUNCTIONS,
    seconds: float = SECONDS,
) -> Script:
    """What a seed says.

    Parameters
    ----------
    seed : int
        The seed.
    network : bool
        Whether hosts can be cut off; if not, their nodes are killed instead.
    functions : int
        How many.
    seconds : float
        For how long nodes are broken.
    """
    rng = Random(seed)
    width = rng.choice([3, 8, 20, 60])
    tasks: list[Task] = []
    for k in range(functions):
        near = range(max(0, k - 3 * width), max(0, k - rng.randint(0, width)))
        count = min(len(near), rng.choice([0, 1, 1, 2, 2, 3, 8]))
        reads = tuple(
            (f"f{u}", 0) if rng.random() < 0.5 else f"f{u}"
            for u in rng.sample(near, count)
        )
        tasks.append(_task(rng, f"f{k}", reads, k >= SOUND * functions))
    events = sorted(_event(rng, seconds, network) for _ in range(rng.randint(6, 12)))
    return Script(seed, tuple(tasks), tuple(events))


def _task(rng: Random, id: str, reads: tuple[Any, ...], may_fail: bool) -> Task:
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind in (FAILS, NEVER) and not may_fail:
        kind = PLAIN
    seconds = min(2.0, rng.expovariate(1 / MEAN))
    node = rng.choice(NODES) if rng.random() < 0.1 else None
    times, attempts, timeout = 0, 1, None
    if kind == RAISES:
        times = rng.randint(1, 3)
        attempts = times + rng.randint(1, 2)
    elif kind == FAILS:
        attempts = rng.randint(1, 3)
    elif kind in (NEVER, ONCE):
        timeout, attempts = TIMEOUT, 1 if kind == NEVER else 2
    elif rng.random() < 0.03:
        timeout = AMPLE
    return Task(id, reads, kind, seconds, times, attempts, node, timeout)


def _event(rng: Random, seconds: float, network: bool) -> Event:
    what = rng.choices(list(DEEDS), list(DEEDS.values()))[0]
    when = rng.uniform(0.5, seconds)
    who = rng.choice(NODES)
    if what == CUT and not network:
        what = KILL
    if what == CUT:
        who = rng.choice(list(HOST))
        return Event(when, what, who, rng.uniform(2.0, 8.0), rng.choice(CUTS))
    if what in (FREEZE, FREEZE_NODE):
        return Event(when, what, who, rng.uniform(0.5, 6.0))
    if what == OFF:
        return Event(when, what, who, rng.uniform(0.5, 4.0))
    if what == JOIN:
        return Event(when, what, JOINING, rng.uniform(3.0, 10.0))
    return Event(when, what, who)
