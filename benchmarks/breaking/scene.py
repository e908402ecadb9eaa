"""Scene: one scenario being played: what is counted, who came and went, what is seen.

Also the kinds of clusters that scenarios need, and the table of scenarios itself.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.cluster import Real, Spec
from benchmarks.breaking.netns import Hosts, why_not
from benchmarks.breaking.ways import Deed, Doors, Ended, Way


@dataclass(slots=True)
class Seen:
    """What came of a scenario.

    Attributes
    ----------
    wall : float
        Seconds that the run took.
    said : str
        ``done``, ``hang``, or the kinds of errors.
    exact : bool
        Whether every result that there should be is there, and right.
    again : int
        How many executions were not a function's first.
    detect : float or None
        Seconds from the break until the scheduler gave the node up; None: it did not.
    back : float or None
        Seconds until all nodes were up again; None: they were not.
    more : dict
        What is told of this scenario alone.
    ended : Ended
        Results and errors.
    """

    wall: float
    said: str
    exact: bool
    again: int
    detect: float | None = None
    back: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    ended: Ended = field(default_factory=Ended)


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario.

    Attributes
    ----------
    id : str
        As in the list of goals.
    name : str
        What is done.
    shape : str
        The kind of cluster.
    goal : str
        What is required, in words.
    limit : float
        Seconds, three times the stated ones, after which it counts as hung.
    play : callable
        ``play(way, limit)`` does it.
    plain : float
        Seconds after which plain Dask is given up.
    """

    id: str
    name: str
    shape: str
    goal: str
    limit: float
    play: Callable[[Way, float], Seen]
    plain: float = 60.0


ROWS: list[Row] = []


def row(
    id: str, name: str, shape: str, goal: str, limit: float, plain: float = 60.0
) -> Any:
    """Put a scenario into the table."""

    def put(play: Callable[[Way, float], Seen]) -> Callable[[Way, float], Seen]:
        ROWS.append(Row(id, name, shape, goal, limit, play, plain))
        return play

    return put


# -------------------------------------------------------------------------- clusters
@contextmanager
def small_disk(mb: int) -> Iterator[str]:
    """A folder on a disk of so many MB; an OSError where none can be made."""
    folder = tempfile.mkdtemp(prefix="breaking-disk-")
    words = ["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", folder]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"a small tmpfs can't be mounted: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=False)
    finally:
        with suppress(OSError):
            os.rmdir(folder)


DISK = 100  # MB of the small disk


@contextmanager
def cluster_of(shape: str) -> Iterator[Real | None]:
    """A cluster of a kind; an OSError where it can't be made.

    ``four`` nodes of one thread; ``one`` of four; ``network``: two of four on hosts
    that can be cut; ``memory``: three that may hold 400 MB; ``unequal``: two such, and
    one of 1.2 GB; ``disk``: two of 400 MB that share 100 MB of disk; ``owned``: none,
    as the executor starts its own.
    """
    with ExitStack() as stack:
        hosts = None
        specs = {f"n{k}": Spec() for k in range(4)}
        if shape == "one":
            specs = {"n0": Spec(threads=4)}
        elif shape == "network":
            if why_not():
                raise OSError(why_not())
            hosts = stack.enter_context(Hosts(["w1", "w2"]))
            specs["n2"], specs["n3"] = Spec(host="w1"), Spec(host="w2")
        elif shape == "memory":
            specs = {f"n{k}": Spec(memory="400MB") for k in range(3)}
        elif shape == "unequal":
            specs = {f"n{k}": Spec(memory="400MB") for k in range(2)}
            specs["large"] = Spec(memory="1200MB")
        elif shape == "disk":
            folder = stack.enter_context(small_disk(DISK))
            specs = {f"n{k}": Spec(memory="400MB", spill=folder) for k in range(2)}
        elif shape == "owned":
            yield None
            return
        yield stack.enter_context(Real(specs, hosts))


# ----------------------------------------------------------------------------- scenes
class Scene:
    """A scenario being played on a way's cluster."""

    def __init__(self, way: Way, limit: float) -> None:
        self.way, self.limit = way, limit
        self.cluster: Real = way.cluster
        self.counts = work.Counts()
        self.doors = Doors(self.cluster.client)
        self._broke: tuple[str, float] | None = None
        self.more: dict[str, Any] = {}

    def broke(self, name: str) -> None:
        """A node is broken now, and the scheduler shall notice."""
        self._broke = (name, time.time())

    def fan(
        self, deed: Deed | None = None, n: int = 200, seconds: float = 0.05
    ) -> Seen:
        """Run the usual graph, and look whether its sum is right."""
        graph = work.fan(self.counts.path, n, seconds)
        return self.seen(self.run(graph, deed), {work.SUM: work.answer(n)})

    def run(self, graph: hd.Graph, deed: Deed | None = None) -> Ended:
        """Run any graph."""
        return self.way.run(graph, deed, self.limit)

    def seen(self, ended: Ended, right: dict[Any, Any]) -> Seen:
        """What came of it, where these should be all results."""
        detect = None
        if self._broke is not None:
            with suppress(TimeoutError):
                detect = self.doors.first("went", *self._broke, limit=0.5)
        exact = not ended.hang and ended.results == right
        return Seen(
            ended.wall, ended.said(), exact, self.counts.again(), detect,
            more=self.more, ended=ended,
        )  # fmt: skip

    def back(self, limit: float) -> float | None:
        """Seconds until all nodes are up; None if that takes too long."""
        try:
            return self.cluster.until_up(limit)
        except TimeoutError:
            return None


@contextmanager
def scene(way: Way, limit: float) -> Iterator[Scene]:
    """A scene; afterwards the cluster is as it was."""
    made = Scene(way, limit)
    try:
        yield made
    finally:
        made.counts.remove()
        way.cluster.revive()
