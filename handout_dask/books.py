"""The books of live runs and nodes: what is planned, sent, held and done. Pure.

Plain state, written by `dispatch.Dispatcher` alone; knows neither Dask nor a clock.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from handout_dask.claims import MEMORY, Claims
from handout_dask.costs import Cost
from handout_dask.lacks import explain_all
from handout_dask.linger import Linger
from handout_dask.node import Node
from handout_dask.runspec import RunSpec
from handout_dask.setbacks import Member as Member
from handout_dask.setbacks import Rest
from handout_dask.tracker import ResourceTracker

WAITING, READY, SENT, DONE, FAILED, GONE = range(6)
ENDED = (DONE, FAILED, GONE)

LONG_TAIL = 256  # functions that were sent out of order and are looked at in vain


@dataclass(slots=True)
class NodeBook:
    """What one node has in hand. Written by Dispatcher, and what it is made of."""

    node: Node
    up: bool = True
    expected: bool = False  # not up, but will be: functions wait for it
    running: dict[Member, float] = field(default_factory=dict)  # [cores]; has a slot
    # sent, for the next free slots in this order: [s] each is expected to take
    ahead: dict[Member, float] = field(default_factory=dict)
    ahead_seconds: float = 0.0
    barred: str = ""  # why it is left out, as far as others can run what it would
    unsure: set[Member] = field(default_factory=set)  # sent, inputs still under way
    lone: int = 0  # how many in hand let nothing be sent ahead behind them
    # taken back, but the node has not said yet that it has let them go
    lingering: dict[Member, Linger] = field(default_factory=dict)
    owing: set[Member] = field(default_factory=set)  # run without cores: it shrank

    slots: float = 0.0  # functions at once
    even: bool = True  # whether any `slots` functions of one core each fit at once

    def __post_init__(self) -> None:
        """Note what is asked for often."""
        self.set(self.node)

    def set(self, node: Node) -> None:
        """The node is there, and is like this."""
        self.node = node
        self.slots = node.capacity("slots")
        self.even = node.capacity("cpu") >= self.slots

    @property
    def used(self) -> int:
        """Slots in use, by what runs and by what was taken back and still runs."""
        taken = len(self.running)
        if self.lingering:
            taken += sum(linger.slot for linger in self.lingering.values())
        return taken

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return self.used >= self.slots

    @property
    def spare(self) -> float:
        """How many more functions of one core fit beside those that run, at least."""
        if not self.even:
            return 0.0
        cores = [*self.running.values()]
        cores += [x.cores for x in self.lingering.values() if x.slot]
        return self.slots - sum(max(1.0, c) for c in cores)


class Queue:
    """The functions of a run that wait for one node. Written by RunBook only."""

    __slots__ = ("first", "order", "ready")

    def __init__(self) -> None:
        self.order: list[tuple[int, int]] = []  # (rank, i), sorted; with some more
        self.first = 0  # those before it were sent
        self.ready: list[tuple[int, int]] = []  # heap of those that are ready; ditto


class RunBook:
    """The state of one run. Written by Dispatcher only."""

    def __init__(
        self, spec: RunSpec, trackers: Sequence[ResourceTracker], since: float = 0.0
    ) -> None:
        n = len(spec.node)
        self.spec, self.since = spec, since
        self.trackers = tuple(trackers)
        self.state = bytearray(n)
        self.node, self.rank = list(spec.node), list(spec.rank)
        self.start, self.end = list(spec.start), list(spec.end)  # as expected, or were
        self.latest = list(spec.latest or spec.start)
        self._able = [set(names) for names in spec.able]
        self.need = list(spec.need)  # the class of each, by the alternative that runs
        self.claims = Claims(self.need, spec.demand)
        self.claim_memory(spec.memory)
        self.is_diminished = False  # whether a node can't run any more what it could
        self.bound: set[int] = set()  # functions that stay where they are
        self.rests: dict[int, Rest] = {}  # functions that wait until a time
        self.grown: dict[int, float] = {}  # [MB] that functions may take now
        self.grown_gpu: dict[int, float] = {}  # ditto, of a GPU
        self.switching: dict[int, int] = {}  # alternatives that run when tried again
        self.switched: dict[int, int] = {}  # those that run, other than planned
        self.shunned: dict[int, tuple[str, ...]] = {}  # where not again, worst last
        self.held_back: dict[int, str] = {}  # no room for what they leave, on this node
        self.pinned = set(spec.pinned)  # until they may go elsewhere
        self.outline = spec.outline  # with these pins
        self.guessed = spec.guessed  # until it is planned again
        self.attempts = [0] * n
        self.running = 0
        self.left = n
        self.mean = 0.0  # seconds of functions of late; 0 is none yet
        self.served = 0.0  # seconds of functions sent, by weight
        self.refusing: dict[int, int] = {}  # by class, which tracker refused last
        self.blocked = False  # a node idles by plan though something is ready
        self.last = max(self.end, default=0.0)
        self.queues: dict[str, Queue] = {}
        self._fill()

    def _fill(self) -> None:
        """Make the queues from the states."""
        self.queues = {}
        for r, i in sorted(zip(self.rank, range(len(self.rank)), strict=True)):
            if self.state[i] in (WAITING, READY):
                queue = self.queues.setdefault(self.node[i], Queue())
                queue.order.append((r, i))
                if self.state[i] == READY:
                    queue.ready.append((r, i))  # sorted, so a heap

    def claim_memory(self, memory: Mapping[int, float], what: str = MEMORY) -> None:
        """These functions hold so much memory [MB] from when they are sent next."""
        for i, mb in memory.items():
            self.claims.raise_memory(i, mb, self.state[i] == SENT, what)

    def put(self, i: int) -> None:
        """Function i waits for its node again, or now."""
        self.claims.waits_again(i)
        if i in self.switching:
            self._switch(i)
        entry = self.rank[i], i
        queue = self.queues.setdefault(self.node[i], Queue())
        at = bisect_left(queue.order, entry)
        if queue.order[at : at + 1] != [entry]:  # it may have come back
            queue.order.insert(at, entry)
        queue.first = min(queue.first, at)
        if self.state[i] == READY:
            heapq.heappush(queue.ready, entry)

    def _switch(self, i: int) -> None:
        """Function i runs as another alternative from now on, as that is declared."""
        assert self.outline is not None
        self.switched[i] = self.switching.pop(i)
        option = self.outline.option_ptr[i] + self.switched[i]
        self.need[i] = int(self.outline.option_class[option])
        self.claims.declare(i)
        self.grown.pop(i, None)
        self.grown_gpu.pop(i, None)
        self.end[i] = self.start[i] + float(self.outline.option_work[option])
        self.is_diminished = True  # its node may not be one that can run this

    def option(self, i: int) -> int:
        """The cost alternative as which function i runs."""
        return self.switched.get(i, self.spec.option[i])

    def get_ready(self, i: int) -> None:
        """Function i, which waits for its node, is ready."""
        queue = self.queues.setdefault(self.node[i], Queue())
        heapq.heappush(queue.ready, (self.rank[i], i))

    def replace(
        self, node: list[str], start: list[float], end: list[float],
        latest: list[float], rank: list[int], is_due: Callable[[str], bool],
    ) -> list[int]:  # fmt: skip
        """Follow another plan with what was not sent yet.

        Returns the functions whose node is another one now: none that is bound, or to a
        node that is not due; of a group all or none.
        """
        moved = []
        for i, state in enumerate(self.state):
            self.rank[i] = rank[i]
            if state not in (WAITING, READY):
                continue
            self.latest[i], self.start[i], self.end[i] = latest[i], start[i], end[i]
            if node[i] != self.node[i] and self._may_move(i, node) and is_due(node[i]):
                moved.append(i)
        for i in moved:
            self.node[i] = node[i]
        self.guessed = b""
        self.last = max((e for e in self.end if e < float("inf")), default=0.0)
        self._fill()
        return moved

    def _may_move(self, i: int, node: list[str]) -> bool:
        """Whether function i may go where a new plan has it."""
        return all(
            k not in self.bound
            and self.state[k] in (WAITING, READY)
            and node[k] == node[i]
            and node[k] not in self.shunned.get(k, ())
            and (k not in self.switched or node[k] in self.able(k))
            for k in self.spec.group.get(i, (i,))
        )

    def unpin(self, who: Collection[int]) -> None:
        """Functions that were pinned may run on any node from now on."""
        self.pinned.difference_update(who)
        if self.outline is not None:
            self.outline = self.outline.freed(who)

    def unable(self) -> list[int]:
        """Functions that are ready, and that their nodes can't run any more."""
        return [
            i
            for i, state in enumerate(self.state if self.is_diminished else b"")
            if state == READY and self.node[i] not in self.able(i)
        ]

    def candidates(self, name: str) -> Iterator[int]:
        """Ready functions of a node by rank; the last one given is taken out."""
        queue = self.queues.get(name)
        if queue is None:
            return
        passed: list[tuple[int, int]] = []
        try:
            while queue.ready:
                entry = heapq.heappop(queue.ready)
                if passed and entry == passed[-1]:  # it was ready before
                    continue
                if self._waits(entry, name) and self.state[entry[1]] == READY:
                    passed.append(entry)
                    yield entry[1]
        finally:
            for entry in passed:
                if self.state[entry[1]] == READY:
                    heapq.heappush(queue.ready, entry)

    def has_ready(self, name: str) -> bool:
        """Whether a ready function was planned for a node, or lately was."""
        queue = self.queues.get(name)
        return queue is not None and bool(queue.ready)

    def ready_anywhere(self) -> Iterator[int]:
        """Ready functions of all nodes by rank; as `candidates`."""
        passed: list[tuple[Queue, tuple[int, int]]] = []
        try:
            while waiting := [x for x in self.queues.items() if x[1].ready]:
                name, queue = min(waiting, key=lambda item: item[1].ready[0])
                entry = heapq.heappop(queue.ready)
                if self._waits(entry, name) and self.state[entry[1]] == READY:
                    passed.append((queue, entry))
                    yield entry[1]
        finally:
            for queue, entry in passed:
                if self.state[entry[1]] == READY:
                    heapq.heappush(queue.ready, entry)

    def ahead_of(self, name: str, i: int | None, most: int) -> Iterator[int]:
        """Functions that a node shall get before i, or any: the first `most`."""
        queue = self.queues.get(name)
        if queue is None:
            return
        end = (len(self.rank), 0) if i is None else (self.rank[i], i)
        at, vain = queue.first, 0
        while most and at < len(queue.order) and queue.order[at] < end:
            entry = queue.order[at]
            if self._waits(entry, name):
                most -= 1
                yield entry[1]
            elif at == queue.first:
                queue.first += 1
            else:
                vain += 1
            at += 1
        if vain > LONG_TAIL:
            queue.order = [entry for entry in queue.order if self._waits(entry, name)]
            queue.first = 0

    def _waits(self, entry: tuple[int, int], name: str) -> bool:
        r, i = entry
        waits = self.state[i] in (WAITING, READY) and i not in self.rests
        return waits and self.node[i] == name and self.rank[i] == r

    def length(self, name: str) -> int:
        """How many functions wait for a node, or a few more."""
        queue = self.queues.get(name)
        return 0 if queue is None else len(queue.order) - queue.first

    @property
    def is_pressed(self) -> bool:
        """Whether it is expected to miss its deadline."""
        return self.spec.deadline is not None and self.last > self.spec.deadline

    def demand(self, i: int, node: Node | None = None) -> dict[str, float]:
        """What function i holds while it runs, on any node or on this one."""
        return self.claims.of(i, node)

    def able(self, i: int) -> set[str]:
        """The nodes that can run function i."""
        return self._able[self.need[i]]

    def able_as(self, need: int) -> set[str]:
        """The nodes that can run functions of a declared class."""
        return self._able[need]

    def cost(self, i: int) -> Cost:
        """What function i asks for; the run has an outline."""
        assert self.spec.outline is not None
        return self.spec.outline.classes[self.need[i]]

    def meet(self, node: Node) -> None:
        """A node is there that perhaps was not when the run was planned."""
        if self.spec.outline is not None:
            for cost, names in zip(self.spec.outline.classes, self._able, strict=True):
                if not explain_all((cost,), node):
                    names.add(node.name)
                elif node.name in names:
                    names.discard(node.name)
                    self.is_diminished = True

    def cores(self, i: int) -> float:
        """The cores that function i holds while it runs."""
        return self.demand(i).get("cpu", 1.0)

    def seconds(self, i: int) -> float:
        """How long function i is expected to take; guesses yield to what was seen."""
        if self.mean and self.guessed and self.guessed[i]:
            return self.mean
        if self.end[i] == float("inf"):  # no node can run it at present
            return 0.0
        return self.end[i] - self.start[i]

    def begin(self, i: int, now: float) -> None:
        """Function i has a slot from now on, by the clock."""
        self.start[i], self.end[i] = (
            now - self.since,
            now - self.since + self.seconds(i),
        )
