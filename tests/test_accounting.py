"""What is claimed of nodes, whatever happens: never too much, and never forgotten."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.books import DONE, FAILED, GONE, READY, SENT, WAITING
from handout_dask.choosing import blocking, is_tied
from handout_dask.dispatch import Dispatcher
from handout_dask.node import Node
from handout_dask.runspec import RunSpec
from handout_dask.standing import Reason
from handout_dask.tracker import StaticTracker
from handout_dask.waiting import Asked

TINY = 1e-9
HELD = "memory", "camera", "cpu"


def spec(token: str, nodes: list[str], **changes: Any) -> RunSpec:
    """A run of len(nodes) functions in order of rank, of one core and a second each."""
    n = len(nodes)
    made = RunSpec(
        token=token, prefix=["f"] * n, cut_prefix="cut", node=nodes,
        rank=list(range(n)), need=[0] * n, demand=[{"cpu": 1.0}],
        able=[frozenset(nodes)], pinned=frozenset(), group={}, start=[0.0] * n,
        end=[1.0] * n, cuts=frozenset(),
    )  # fmt: skip
    return replace(made, **changes)


def dispatcher(*nodes: Node) -> Dispatcher:
    made = Dispatcher(StaticTracker())
    made.tells = lambda name: True
    for node in nodes:
        made.set_node(node)
    return made


def near(token: str, i: int, name: str) -> float:
    """All inputs are on every node."""
    return 0.0


def sent(books: Dispatcher, name: str) -> list[tuple[str, int]]:
    return [(send.token, send.i) for send in books.next(name, near)]


def claimed(books: Dispatcher, name: str) -> dict[str, float]:
    rows = books.tracker.snapshot()[name]
    return {what: taken for what, (_, taken, _) in rows.items() if taken}


BIG = [{"cpu": 1.0, "memory": 600.0}]


def one_after_another(books: Dispatcher) -> None:
    """Run r has node "a", and run s wants it."""
    for token in "rs":
        books.add_run(spec(token, ["a"], demand=BIG))
        books.ready(token, 0)
    assert sent(books, "a") == [("r", 0)]


# ----------------------------------------------------------------------- examples
@pytest.mark.parametrize("how", ["cancelled", "dropped", "taken back", "both"])
def test_what_is_taken_back_holds_all_until_its_thread_has_ended(how: str) -> None:
    books = dispatcher(Node("a", {"cpu": 2, "memory": 1000}))
    one_after_another(books)
    if how in ("taken back", "both"):
        books.waiting("r", 0, lingers=True)
    if how in ("cancelled", "both"):
        books.ended("r", 0, GONE, lingers=True)
    if how in ("dropped", "both"):
        books.drop_run("r")
    assert (sent(books, "a"), claimed(books, "a")) == ([], {"cpu": 1, "memory": 600})
    assert books.left("r", 0, "a")
    assert claimed(books, "a") == {}
    assert sent(books, "a") == [("s", 0)]
    assert not books.left("r", 0, "a")  # told twice
    assert claimed(books, "a") == {"cpu": 1, "memory": 600}


def test_a_node_that_tells_nothing_has_let_go_at_once() -> None:
    books = dispatcher(Node("a", {"cpu": 2, "memory": 1000}))
    books.tells = lambda name: False
    one_after_another(books)
    books.ended("r", 0, GONE, lingers=True)
    assert sent(books, "a") == [("s", 0)]


@pytest.mark.parametrize("state", [DONE, FAILED])
def test_what_ended_by_itself_holds_nothing(state: int) -> None:
    books = dispatcher(Node("a", {"cpu": 2, "memory": 1000}))
    one_after_another(books)
    books.ended("r", 0, state)
    assert sent(books, "a") == [("s", 0)]


@pytest.mark.parametrize("returns", [True, False])
def test_nothing_lingers_on_a_node_that_is_gone(returns: bool) -> None:
    node = Node("a", {"cpu": 2, "memory": 1000})
    books = dispatcher(node)
    one_after_another(books)
    books.drop_run("s")
    books.waiting("r", 0, lingers=True)
    books.expect_node(node) if returns else books.lose_node("a")
    assert claimed(books, "a") == {}
    books.waiting("r", 0, lingers=True)
    books.set_node(node)
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]


def test_what_is_sent_again_to_where_it_lingers_goes_on_with_what_it_holds() -> None:
    books = dispatcher(Node("a", {"cpu": 1, "memory": 1000}))
    one_after_another(books)
    books.drop_run("s")
    books.waiting("r", 0, lingers=True)
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    book = books.nodes["a"]
    assert (book.running, book.ahead, book.lingering) == ({("r", 0): 1.0}, {}, {})
    assert claimed(books, "a") == {"cpu": 1, "memory": 600}
    assert not books.left("r", 0, "a")  # word of the first time, too late
    books.ended("r", 0, DONE)
    assert claimed(books, "a") == {}


def test_a_function_that_begins_anew_elsewhere_holds_both_nodes() -> None:
    books = dispatcher(*(Node(n, {"cpu": 2, "memory": 1000}) for n in "ab"))
    books.add_run(spec("r", ["a", "b"], demand=BIG))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    assert not books.move("r", 0, "b")  # it is not waiting
    books.waiting("r", 0, lingers=True)
    assert books.move("r", 0, "b")
    books.ready("r", 0)
    assert (sent(books, "a"), sent(books, "b")) == ([], [("r", 0)])
    assert claimed(books, "a") == claimed(books, "b") == {"cpu": 1, "memory": 600}
    books.ended("r", 0, DONE)
    assert (claimed(books, "a")["memory"], claimed(books, "b")) == (600, {})
    assert books.left("r", 0, "a")
    assert claimed(books, "a") == {}


def test_what_was_taken_back_before_it_began_gets_the_next_slot_all_the_same() -> None:
    """Perhaps the node has begun it meanwhile, of which no word comes."""
    books = dispatcher(Node("a", {"cpu": 1, "memory": 1000}))
    demand = [{"cpu": 1.0, "memory": 100.0}]
    books.add_run(spec("r", ["a"] * 3, demand=demand, end=[0.01] * 3))
    for i in range(3):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1), ("r", 2)]
    books.ended("r", 1, GONE, lingers=True)
    assert claimed(books, "a") == {"cpu": 1, "memory": 300}
    books.ended("r", 0, DONE)
    assert (books.nodes["a"].used, list(books.nodes["a"].running)) == (1, [])
    assert claimed(books, "a") == {"cpu": 1, "memory": 200}
    books.left("r", 1, "a")
    assert list(books.nodes["a"].running) == [("r", 2)]
    assert claimed(books, "a") == {"cpu": 1, "memory": 100}


def test_what_gets_a_slot_of_a_node_that_shrank_gets_its_cores_when_it_can() -> None:
    books = dispatcher(Node("a", {"cpu": 2}, slots=2))
    books.add_run(spec("r", ["a"] * 4, end=[0.01] * 4))
    for i in range(4):
        books.ready("r", i)
    assert len(sent(books, "a")) == 4
    books.set_node(Node("a", {"cpu": 1}, slots=2))
    books.ended("r", 0, DONE)
    book = books.nodes["a"]
    assert (list(book.running), book.owing) == ([("r", 1), ("r", 2)], {("r", 2)})
    assert claimed(books, "a") == {"cpu": 1}
    books.ended("r", 1, DONE)
    assert (list(book.running), book.owing) == ([("r", 2), ("r", 3)], {("r", 3)})
    books.ended("r", 3, GONE, lingers=True)
    books.ended("r", 2, DONE)
    assert (book.owing, claimed(books, "a")) == (set(), {"cpu": 1})
    books.left("r", 3, "a")
    assert (book.owing, claimed(books, "a")) == (set(), {})


def test_outlook_tells_what_lingers() -> None:
    books = dispatcher(Node("a", {"cpu": 2, "memory": 1000}))
    one_after_another(books)
    books.now = 0.4
    books.drop_run("r")
    books.drop_run("s")
    assert books.outlook() == [("a", 0.0, pytest.approx(0.6), BIG[0])]


def test_eager_functions_go_to_any_node_that_has_room() -> None:
    books = dispatcher(*(Node(n, {"cpu": 1, "memory": 1000}) for n in "abc"))
    able = [frozenset("ab")]
    books.add_run(spec("r", ["a"] * 4, eager=True, able=able, pinned=frozenset([0])))
    for i in range(4):
        books.ready("r", i)
    assert (sent(books, "c"), sent(books, "b")) == ([], [("r", 1)])
    assert books.runs["r"].node[1] == "b"
    assert sent(books, "a") == [("r", 0)]
    books.ended("r", 1, DONE)
    assert sent(books, "b") == [("r", 2)]


# ----------------------------------------------------------------- whatever happens
class Scarce(StaticTracker):
    """A user's tracker that allows for less memory than there is."""

    def register(self, node: str, capabilities: Any) -> None:
        super().register(node, {**capabilities, "memory": 500})


class World:
    """Runs, nodes and threads, of which the books are told; what happens is drawn."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.books = Dispatcher(StaticTracker())
        self.silent = {n for n in "abc" if rng.random() < 0.15}
        self.paused: set[str] = set()
        self.books.tells = lambda name: name not in self.silent
        self.nodes = {name: self.draw_node(name) for name in "abc"}
        self.most: Counter[tuple[str, str]] = Counter()  # claimed, as a node shrank
        self.up: set[str] = set()
        for name in self.nodes:
            self.join(name)
        self.specs: dict[str, RunSpec] = {}
        self.own: dict[str, StaticTracker | None] = {}
        self.state: dict[tuple[str, int], int] = {}
        self.at: dict[tuple[str, int], str] = {}  # where what was sent is
        self.lingers: set[tuple[str, int, str]] = set()  # whose thread has not ended
        self.stale: list[tuple[str, int, str]] = []  # of which word came, or may come

    def draw_node(self, name: str) -> Node:
        rng = self.rng
        has = {
            "cpu": rng.choice([1, 2, 4, 1.5]), "memory": rng.choice([600, 1000]),
            "camera": rng.choice([0, 1, 2]),
        }  # fmt: skip
        return Node(name, has, slots=rng.choice([None, 1, 3, 5]))

    # ------------------------------------------------------------------- events
    def join(self, name: str) -> None:
        self.books.set_node(self.nodes[name])
        for lost in set(self.nodes) - self.up - {name}:
            if lost in self.books.nodes:
                self.books.lose_node(lost)
        self.up.add(name)

    def reshape(self) -> None:
        name = self.rng.choice([*self.nodes])
        self.nodes[name] = self.draw_node(name)
        if name in self.up:
            self.join(name)
            for what in HELD:
                self.most[name, what] = self.taken(name, what)
            self.most[name, "slots"] = self.books.nodes[name].used

    def lose(self) -> None:
        """A node goes; its tasks are released before, or after, word of that."""
        name = self.rng.choice([*self.nodes])
        self.up.discard(name)
        told = self.rng.random() < 0.5
        if told:
            self.books.lose_node(name)
        for member in [m for m, at in self.at.items() if at == name]:
            self.take_back(member)
        if not told:
            self.books.lose_node(name)
        self.lingers = {x for x in self.lingers if x[2] != name}
        if self.rng.random() < 0.3:
            self.books.expect_node(self.nodes[name])

    def submit(self) -> None:
        rng, token = self.rng, f"r{len(self.specs)}"
        n = rng.randint(1, 8)
        node = [rng.choice("abc") for _ in range(n)]
        demand = [
            {"cpu": rng.choice([0, 0.1, 0.5, 1.0, 1.0, 2.0]),
             **rng.choice([{}, {"memory": rng.choice([100.0, 400.0, 600.0])}]),
             **rng.choice([{}, {}, {"camera": 1.0}])}
            for _ in range(3)
        ]  # fmt: skip
        begin = sorted(rng.choice([0.0, 0.1, 0.5, 3.0]) for _ in range(n))
        ends = [b + rng.choice([0.001, 0.1, 1.0]) for b in begin]
        able = [
            frozenset(x for x in "abc" if self.fits(d, self.nodes[x])) or frozenset("a")
            for d in demand
        ]
        self.specs[token] = made = spec(
            token, node, need=[rng.randrange(3) for _ in range(n)], demand=demand,
            able=able, start=begin, end=ends,
            pinned=frozenset(k for k in range(n) if rng.random() < 0.1),
            latest=[b + rng.choice([0.0, 0.01, 2.0]) for b in begin],
            limit=rng.choice([None, None, 1, 2]),
            cuts=frozenset(k for k in range(n) if rng.random() < 0.1),
            adaptive=rng.random() < 0.7, eager=rng.random() < 0.4,
            priority=rng.choice([0, 0, 1]),
        )  # fmt: skip
        own = self.own[token] = rng.choice([None, StaticTracker(), Scarce()])
        self.books.add_run(made, own)
        for i in range(n):
            self.state[token, i] = WAITING

    @staticmethod
    def fits(demand: dict[str, float], node: Node) -> bool:
        return all(node.capacity(k) >= v for k, v in demand.items())

    def send(self, name: str) -> None:
        if name in self.paused:
            return
        before = set(self.lingers)
        for send in self.books.next(name, self.arrives):
            member = send.token, send.i
            assert (send.node, self.state[member]) == (name, READY)
            assert name in self.up
            self.state[member], self.at[member] = SENT, name
            again = *member, name
            if again in before:  # its thread goes on
                self.lingers.discard(again)
                self.stale.append(again)
            one = self.specs[send.token]
            if not one.eager or not one.adaptive:
                assert self.books.runs[send.token].node[send.i] == name

    def arrives(self, token: str, i: int, name: str) -> float:
        return self.rng.choice([0.0] * 8 + [0.005, 1.0])

    def take_back(self, member: tuple[str, int], state: int = WAITING) -> None:
        """The scheduler takes back what was sent; its thread may go on."""
        name = self.at.pop(member)
        self.state[member] = state
        if name in self.up and name not in self.silent:
            self.lingers.add((*member, name))
        if state == WAITING:
            self.books.waiting(*member, lingers=True)
        else:
            self.books.ended(*member, GONE, lingers=True)

    def end(self, member: tuple[str, int]) -> None:
        del self.at[member]
        how = self.rng.choice([DONE, DONE, DONE, FAILED, WAITING])
        self.state[member] = how
        if how == WAITING:
            self.books.waiting(*member)
        else:
            self.books.ended(*member, how, self.rng.choice([None, 0.01]))

    def drop(self, token: str) -> None:
        for member in [m for m in self.at if m[0] == token]:
            name = self.at.pop(member)
            if name in self.up and name not in self.silent:
                self.lingers.add((*member, name))
        self.books.drop_run(token)
        for member in [m for m in self.state if m[0] == token]:
            del self.state[member]

    def leave(self) -> None:
        """A thread ends; word of it may come twice, or long after."""
        gone = self.rng.choice([*sorted(self.lingers)])
        self.lingers.discard(gone)
        assert self.books.left(*gone)
        self.stale.append(gone)

    def step(self) -> None:
        """Something happens, of what can."""
        self.books.now += self.rng.choice([0.0, 0.001, 0.1, 1.0])
        waiting = [m for m, state in self.state.items() if state == WAITING]
        chances = {
            lambda: self.send(self.rng.choice("abc")): 25,
            lambda: self.get_ready(waiting): 20 * bool(waiting),
            lambda: self.end(self.rng.choice([*self.at])): 15 * bool(self.at),
            lambda: self.take_back(
                self.rng.choice([*self.at]), self.rng.choice([WAITING, GONE])
            ): 10 * bool(self.at),
            self.leave: 8 * bool(self.lingers),
            self.leave_late: 2 * bool(self.stale),
            self.submit: 5 * (len(self.books.runs) < 3),
            self.lose: 1,
            lambda: self.join(self.rng.choice("abc")): 4,
            self.reshape: 3,
            lambda: self.pause(self.rng.choice("abc")): 1,
            lambda: self.move(self.rng.choice(waiting)): 2 * bool(waiting),
            lambda: self.drop(self.rng.choice([*self.books.runs])): bool(
                self.books.runs
            ),
        }
        (event,) = self.rng.choices([*chances], [*chances.values()])
        event()

    def get_ready(self, waiting: list[tuple[str, int]]) -> None:
        for member in self.rng.sample(waiting, min(3, len(waiting))):
            self.state[member] = READY
            self.books.ready(*member)

    def leave_late(self) -> None:
        """Word comes twice, or of a thread that was taken on meanwhile."""
        late = self.rng.choice(self.stale)
        assert self.books.left(*late) == (late in self.lingers)
        self.lingers.discard(late)

    def pause(self, name: str) -> None:
        self.paused ^= {name}

    def move(self, member: tuple[str, int]) -> None:
        name = self.rng.choice("abc")
        moved = self.books.move(*member, name)
        assert not moved or self.books.runs[member[0]].node[member[1]] == name

    # -------------------------------------------------------------- what holds
    def taken(self, name: str, what: str) -> float:
        rows = self.books.tracker.snapshot()[name]
        return rows[what][1] if what in rows else 0.0

    def holds(self) -> Iterator[tuple[str, int, str, dict[str, float]]]:
        """``(token, i, node, demand)`` of what holds something: sent, or lingering."""
        found = [(*member, name) for member, name in self.at.items()]
        for token, i, name in [*found, *sorted(self.lingers)]:
            book, one = self.books.nodes[name], self.specs[token]
            member, demand = (token, i), dict(one.demand[one.need[i]])
            linger = book.lingering.get(member)
            begun = member in book.running or (linger is not None and linger.slot)
            if not begun or member in book.owing:
                demand.pop("cpu")
            yield token, i, name, demand

    def check(self) -> None:
        """Claims are those of what holds something: no more, no less, and they fit."""
        books = self.books
        held: Counter[tuple[Any, str, str]] = Counter()
        for token, _, name, demand in self.holds():
            for what, amount in demand.items():
                held["", name, what] += amount
                held[token, name, what] += amount
        trackers = {"": books.tracker, **{t: x for t, x in self.own.items() if x}}
        for who, tracker in trackers.items():
            for name, rows in tracker.snapshot().items():
                for what, (_, taken, _) in rows.items():
                    assert taken == pytest.approx(held[who, name, what], abs=TINY)
        for name, book in books.nodes.items():
            for what in HELD:
                most = max(book.node.capacity(what), self.most[name, what])
                assert self.taken(name, what) <= most + TINY
                if self.most[name, what] > self.taken(name, what):
                    self.most[name, what] = self.taken(name, what)
            assert book.used <= max(book.slots, self.most[name, "slots"])
            self.most[name, "slots"] = min(self.most[name, "slots"], book.used)
            mine = [m for m, at in self.at.items() if at == name]
            assert sorted([*book.running, *book.ahead]) == sorted(mine)
            assert book.lingering.keys() == {
                (token, i) for token, i, at in self.lingers if at == name
            }
            lone = [
                1
                for token, i, at, _ in self.holds()
                if at == name and (i in self.specs[token].cuts
                or self.specs[token].demand[self.specs[token].need[i]]["cpu"] > 1)
            ]  # fmt: skip
            assert book.lone == len(lone)
        for token, run in books.runs.items():
            mine = [m for b in books.nodes.values() for m in b.running if m[0] == token]
            assert run.running == len(mine)
            assert list(run.state) == [
                self.state[token, i] for i in range(len(run.state))
            ]

    def check_reasons(self) -> None:
        """Once nothing is sent any more, what waits does so for a reason; it is true.

        This is what the law of no idling says too: a ready function whose node has a
        slot and room, and nothing before it, would be due, and was not sent.
        """
        for _ in range(2):  # of two runs the first may have had its turn too early
            for name in "abc":
                self.send(name)
        for (token, i), state in list(self.state.items()):
            asked = Asked(self.books, token, i, lambda name: name not in self.paused)
            if state in (WAITING, READY):
                reason = asked.reason()
                assert (reason.kind == "inputs") == (state == WAITING)
                assert reason.node == self.books.runs[token].node[i]
                if state == READY:
                    self.check_reason(token, i, reason)
                    self.check_eager(token, i)
            standing = asked.standing(near)
            assert standing.end >= standing.start
            assert str(standing)
            for offer in standing.elsewhere:
                node, need = self.books.nodes[offer.node], self.demand(token, i)
                assert (node.up, node.is_full) == (True, False)
                assert offer.node not in self.paused
                assert self.books.tracker.available(offer.node, need)

    def demand(self, token: str, i: int) -> dict[str, float]:
        return self.specs[token].demand[self.specs[token].need[i]]

    def check_reason(self, token: str, i: int, reason: Reason) -> None:
        books, run, name = self.books, self.books.runs[token], reason.node
        book, kind = books.nodes[name], reason.kind
        mine = [m for m in book.running if m[0] == token]
        if kind == "node":
            assert name not in self.up or name in self.paused
        elif kind == "limit":
            assert run.running == run.spec.limit
        elif kind == "slot":
            assert book.used >= book.slots
            assert len(reason.others) == book.used >= len(mine)
        elif kind == "room":
            demand = self.demand(token, i)
            for one in reason.short:
                need = {one.resource: demand[one.resource]}
                assert not books.tracker.request("probe", name, need)
                row = books.tracker.snapshot()[name][one.resource]
                assert (one.capacity, one.claimed) == row[:2]
                assert one.claimed + one.needs > one.capacity
                amounts = [amount for _, amount in one.holders]
                assert sum(amounts) == pytest.approx(one.claimed)
            assert reason.short
        elif kind == "tracker":
            own = self.own[token]
            assert own is not None
            assert not own.request("probe", name, self.demand(token, i))
        else:
            assert kind == "turn"
            (other,) = reason.others
            if run.spec.adaptive:
                k = int(other.function)
                late = blocking(book, run, i, books.now) is not None
                assert k == i or run.rank[k] < run.rank[i]
                assert late or run.state[k] == READY
            elif other.run == "" and run.state[int(other.function)] != SENT:
                assert run.rank[int(other.function)] < run.rank[i]
                assert run.node[int(other.function)] == name
            else:
                assert book.unsure

    def check_eager(self, token: str, i: int) -> None:
        """An eager function waits beside no free node that fits."""
        run, one = self.books.runs[token], self.specs[token]
        if not one.eager or not one.adaptive or is_tied(run, i):
            return
        if one.limit is not None and run.running >= one.limit:
            return
        for name in run.able(i) & self.up - self.paused:
            book = self.books.nodes[name]
            if (token, i) not in book.lingering and not book.is_full:
                demand = self.demand(token, i)
                assert not all(x.available(name, demand) for x in run.trackers)

    def finish(self) -> None:
        for token in list(self.books.runs):
            self.drop(token)
        self.check()
        while self.lingers:
            self.leave()
            self.check()
        for name, book in self.books.nodes.items():
            assert claimed(self.books, name) == {}
            assert (book.used, book.lone, book.ahead_seconds) == (0, 0, 0.0)
            assert (book.owing, book.unsure, book.ahead) == (set(), set(), {})
        for tracker in self.own.values():
            rows = {} if tracker is None else tracker.snapshot()
            assert not [r for has in rows.values() for r in has.values() if r[1]]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**9))
def test_claims_fit_and_are_those_of_what_holds_something(seed: int) -> None:
    world = World(seed)
    world.submit()
    for k in range(100):
        world.step()
        world.check()
        if k % 10 == 9:
            world.check_reasons()
            world.check()
    world.finish()
