"""Which nodes are held, and when they are started and ended. Pure.

Is told what joined, left and was asked for, and by when runs need which node; knows no
Dask, no clock, and not what starting a node takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from handout_dask.books import RunBook
from handout_dask.held import Held
from handout_dask.node import Cluster, Node
from handout_dask.scaling import Decision, Elastic, End, Expect, Lose, Start

ABSENT, STARTING, UP, ENDING, GONE, LOST = range(6)
AWAY = (ABSENT, STARTING, ENDING, GONE)  # but will be there when it is needed
STAYS = 600.0  # s that a node is not tried to be ended whose results fit nowhere else
UNTIL_NEXT = 1.0  # s to the end of a paid quantum, in which a node is ended
LATE = 0.5  # of the time that a start has taken already, if late, it takes yet
EARLY = 1.25  # times what a start takes it is begun before the need
NEWS = 0.5  # of the new value in the mean of start-up times


def needs(runs: Iterable[RunBook], names: Iterable[str]) -> dict[str, float]:
    """When each node is next needed, by the clock [s]; those that nobody needs lack.

    By the first in planned order of what was not sent to it yet.
    """
    found: dict[str, float] = {}
    books = [run for run in runs if run.left]
    for name in names:
        for run in books:
            first = next(run.ahead_of(name, None, 1), None)
            if first is not None and run.start[first] < math.inf:
                when = run.since + run.start[first]
                found[name] = min(found.get(name, math.inf), when)
    return found


@dataclass(slots=True)
class _Place:
    """One node; written by Holding only."""

    node: Node
    state: int
    since: float  # [s] of the state
    idle_since: float  # [s]
    retry_at: float = 0.0  # [s], of what is lost
    is_slow: bool = False  # to start; was told
    holds: list[list[float]] = field(default_factory=list)  # from, until (inf: still)

    def turn(self, state: int, now: float) -> None:
        self.state, self.since, self.idle_since = state, now, now
        self.is_slow = False
        if state in (STARTING, UP) and not (self.holds and self.is_held):
            self.holds.append([now, math.inf])
        elif state in (ABSENT, GONE, LOST) and self.holds and self.is_held:
            self.holds[-1][1] = now

    @property
    def is_held(self) -> bool:
        """Whether somebody pays for it now."""
        return self.holds[-1][1] == math.inf


class Holding:
    """The nodes that executors let start and end by plan.

    A node is absent, starting, up, ending (its results are brought elsewhere), gone
    (until whoever starts nodes has put it away), or lost (counted on by nobody). Only
    an absent one is started.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._owners: dict[str, tuple[Elastic, dict[str, None], float]] = {}
        self._startup: float | None = None  # s, mean of those seen

    # ------------------------------------------------------------------- members
    def declare(
        self,
        owner: str,
        cluster: Cluster,
        elastic: Elastic,
        there: Collection[str],
        now: float,
    ) -> list[Decision]:
        """An executor lets these nodes start and end; some are there already."""
        names = dict.fromkeys(cluster.index)
        self._owners[owner] = elastic, names, cluster.quantum
        made: list[Decision] = []
        for node in cluster.nodes:
            if node.name in self._places:
                continue
            place = self._places[node.name] = _Place(node, ABSENT, now, now)
            if node.name in there:
                place.turn(UP, now)
            else:
                made.append(Expect(node.name))
        return made

    def withdraw(self, owner: str) -> list[Decision]:
        """An executor has left; nobody starts its nodes any more."""
        if self._owners.pop(owner, None) is None:
            return []
        mine = {n for _, names, _ in self._owners.values() for n in names}
        left = [name for name in self._places if name not in mine]
        return [
            Lose(name, "who would start it has left")
            for name in left
            if self._places.pop(name).state in AWAY
        ]

    def is_led_by(self, owner: str, name: str) -> bool:
        """Whether it is this executor that starts and ends a node: the first one."""
        leader = next((o for o, row in self._owners.items() if name in row[1]), None)
        return leader == owner

    # -------------------------------------------------------------------- events
    def joined(self, name: str, now: float) -> None:
        """A node is there."""
        place = self._places.get(name)
        if place is None or place.state in (UP, ENDING):
            return
        if place.state == STARTING:
            took = now - place.since
            known = took if self._startup is None else self._startup
            self._startup = known + NEWS * (took - known)
        place.turn(UP, now)

    def left(self, name: str, now: float) -> bool:
        """A node is gone; whether it was ended here, and may be started again."""
        place = self._places.get(name)
        if place is None or place.state in (GONE, ABSENT):
            return place is not None
        was_ended = place.state == ENDING
        place.turn(GONE if was_ended else LOST, now)
        place.retry_at = now
        return was_ended

    def stays(self, name: str, now: float) -> None:
        """A node that was to end can't: its results fit nowhere else."""
        place = self._places.get(name)
        if place is not None and place.state == ENDING:
            place.turn(UP, now)
            place.idle_since = now + STAYS

    def failed(self, name: str, why: str, now: float) -> list[Decision]:
        """A node could not be started."""
        place = self._places.get(name)
        if place is None or place.state != STARTING:
            return []
        return [self._give_up(place, why, now)]

    def _give_up(self, place: _Place, why: str, now: float) -> Lose:
        place.turn(LOST, now)
        place.retry_at = now + self._elastic(place.node.name)[0].patience
        return Lose(place.node.name, why)

    def specified(
        self, owner: str, names: Collection[str], now: float
    ) -> list[Decision]:
        """Which nodes there is somebody to keep running; what is not may be started."""
        made: list[Decision] = []
        for name, place in self._places.items():
            if not self.is_led_by(owner, name) or name in names:
                continue
            if place.state == GONE:
                place.turn(ABSENT, now)
            elif place.state == LOST and now >= place.retry_at:
                place.turn(ABSENT, now)
                made.append(Expect(name))
        return made

    # ----------------------------------------------------------------- decisions
    def decide(
        self, need: Mapping[str, float], busy: Callable[[str], bool], now: float
    ) -> list[Decision]:
        """What to start and to end.

        Parameters
        ----------
        need : mapping
            When each node is next needed, by the clock [s], as of `needs`.
        busy : callable
            Whether something runs on a node, by name.
        now : float
            By the clock [s].

        Notes
        -----
        A node that is paid by the quantum stays until what is paid is nearly over, as
        Mao and Humphrey have it (Auto-scaling to minimize cost and meet application
        deadlines in cloud workflows, SC 2011, doi:10.1145/2063384.2063449).
        """
        made: list[Decision] = []
        for name, place in self._places.items():
            elastic, quantum = self._elastic(name)
            when = need.get(name, math.inf)
            if place.state == ABSENT and when <= now + EARLY * self.startup(name):
                place.turn(STARTING, now)
                made.append(Start(name))
            elif place.state == STARTING and now - place.since > elastic.patience:
                why = f"it did not come within {elastic.patience:g} s"
                made.append(self._give_up(place, why, now))
            elif place.state == LOST and self._is_over(place, elastic, now):
                place.turn(GONE, now)  # to be put away, whatever is left of it
                made.append(Expect(name))
            elif place.state == UP:
                far = now + self.startup(name) + elastic.idle
                if when <= far or busy(name):
                    place.idle_since = now
                elif now - place.idle_since >= elastic.idle and self._is_paid(
                    place, quantum, now
                ):
                    made.append(End(name))
        return self._with_least(made, now)

    @staticmethod
    def _is_over(place: _Place, elastic: Elastic, now: float) -> bool:
        """Whether what was lost had its time to come back by itself."""
        return now - place.since > elastic.patience and now >= place.retry_at

    def _is_paid(self, place: _Place, quantum: float, now: float) -> bool:
        """Whether what is paid of a node is over, or nearly."""
        if not quantum or not place.holds:
            return True
        left = quantum - (now - place.holds[-1][0]) % quantum
        return left <= min(UNTIL_NEXT, quantum / 2)

    def _with_least(self, made: list[Decision], now: float) -> list[Decision]:
        """Hold as many nodes as is asked for at least; the cheapest stay or come."""
        places, keep = self._places, set()
        for elastic, names, _ in self._owners.values():
            able = [name for name in names if places[name].state not in (LOST, GONE)]
            able.sort(key=lambda name: places[name].node.price)
            keep |= {*able[: elastic.least]}
            ends = {d.node for d in made if isinstance(d, End)} - keep
            up = [n for n in able if places[n].state == UP and n not in ends]
            # Those that are to come may fail, and results need a place meanwhile.
            more = [n for n in able if n in ends][: max(0, elastic.least - len(up))]
            keep |= {*more}
        out: list[Decision] = []
        for decision in made:
            if not isinstance(decision, End):
                out.append(decision)
            elif decision.node not in keep:
                places[decision.node].turn(ENDING, now)
                out.append(decision)
        for name in sorted(keep):
            if places[name].state == ABSENT:
                places[name].turn(STARTING, now)
                out.append(Start(name))
        return out

    def _elastic(self, name: str) -> tuple[Elastic, float]:
        """The settings of who leads a node, and its quantum [s]."""
        for elastic, names, quantum in self._owners.values():
            if name in names:
                return elastic, quantum
        return Elastic(), 0.0

    # ------------------------------------------------------------------- reading
    def startup(self, name: str) -> float:
        """Seconds that the node is believed to take to start."""
        if self._startup is not None:
            return self._startup
        return self._elastic(name)[0].startup

    def delay(self, name: str, now: float) -> float:
        """Seconds until a node can be there; 0 if it is, inf if it is lost."""
        place = self._places.get(name)
        if place is None or place.state == UP:
            return 0.0
        if place.state == LOST:
            return math.inf
        if place.state == STARTING:
            passed = now - place.since
            left = self.startup(name) - passed
            return left if left > 0 else LATE * passed
        return self.startup(name)

    def slow(self, now: float) -> list[str]:
        """The nodes whose start has just taken twice as long as believed."""
        found = []
        for name, place in self._places.items():
            if place.state == STARTING and not place.is_slow:
                place.is_slow = now - place.since > 2 * self.startup(name)
                if place.is_slow:
                    found.append(name)
        return found

    def away(self, owner: str) -> list[Node]:
        """The nodes of an executor that are not there, but can be."""
        if owner not in self._owners:
            return []
        places = [self._places[name] for name in self._owners[owner][1]]
        return [place.node for place in places if place.state in AWAY]

    def held(self, owner: str, now: float) -> list[Held]:
        """What plans have to take as held: all of each node until it can be there.

        Times are from now on.
        """
        return [
            Held(
                node.name,
                0.0,
                self.delay(node.name, now),
                {"slots": node.capacity("slots"), "cpu": 0.0},
            )
            for node in self.away(owner)
        ]

    def wanted(self, owner: str) -> tuple[list[str], list[str]]:
        """The nodes that an executor has to start, and those it has to put away."""
        start, away = [], []
        for name, place in self._places.items():
            if not self.is_led_by(owner, name):
                continue
            if place.state == STARTING:
                start.append(name)
            elif place.state in (ABSENT, GONE) or (
                place.state == LOST and place.retry_at > place.since
            ):
                away.append(name)
        return start, away

    def holds(
        self, owner: str, since: float, now: float
    ) -> list[tuple[str, float, float]]:
        """When the nodes of an executor were held: name, from and until [s] since.

        From when a node was to start to when it was gone; as far as it is within.
        """
        if owner not in self._owners:
            return []
        return [
            (name, max(begin, since) - since, min(end, now) - since)
            for name in self._owners[owner][1]
            for begin, end in self._places[name].holds
            if end > since and begin < now
        ]
