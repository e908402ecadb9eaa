"""Waiting: where a function of a live run stands and, if it waits, for what. Pure.

Reads the books of `dispatch`, and answers by the same rules: as long as a function
waits for anything, it is not sent, and what it waits for can be looked up there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from handout_dask.begun import expected_end
from handout_dask.books import (
    DONE,
    ENDED,
    FAILED,
    READY,
    SENT,
    WAITING,
    Member,
    NodeBook,
    RunBook,
)
from handout_dask.choosing import (
    TRIES,
    Arrives,
    blocking,
    is_tied,
)
from handout_dask.claiming import held_of
from handout_dask.dispatch import Dispatcher
from handout_dask.node import TOLERANCE
from handout_dask.standing import Elsewhere, Other, Reason, Short, Standing

TAKEN_BACK = "was taken back, and still runs"


class Asked:
    """The books, asked about one function.

    Parameters
    ----------
    books : Dispatcher
        With its time set.
    token, i : str, int
        The run and the function.
    takes : callable
        Whether a node that is up, by name, takes work: it is not paused.
    """

    def __init__(
        self, books: Dispatcher, token: str, i: int, takes: Callable[[str], bool]
    ) -> None:
        self._books, self._takes, self._i = books, takes, i
        self._run = run = books.runs[token]
        self._at = books.now - run.since  # [s] since the run began

    def standing(self, arrives: Arrives) -> Standing:
        """Where the function stands; inputs arrive elsewhere as `arrives` says."""
        run, i = self._run, self._i
        state, name = run.state[i], run.node[i]
        start, end, label = run.start[i], run.end[i], _label(run, i)
        if state in ENDED:
            how = {DONE: "done", FAILED: "failed"}.get(state, "cancelled")
            return Standing(label, how, name, start, end)
        if state == SENT:
            member, book = (run.spec.token, i), self._books.nodes[name]
            if member in book.running and member not in book.unsure:
                end = expected_end(start, run.seconds(i), self._at)
                return Standing(label, "runs", name, start, end)
            ahead = self._slot(book) if member in book.ahead else None
            return Standing(label, "sent", name, start, end, ahead)
        reason = self.reason()
        start = max(start, self._at, reason.until or 0.0)
        end = start + run.seconds(i)
        offers = () if state == WAITING else self._elsewhere(arrives)
        return Standing(label, "waits", name, start, end, reason, offers)

    # ----------------------------------------------------------------- for what
    def reason(self) -> Reason:
        """For what the function, which waits, does."""
        run, i = self._run, self._i
        rest = run.rests.get(i)
        if rest is not None:
            until = rest.until - run.since
            return Reason("rest", run.node[i], what=rest.why, until=until)
        if run.state[i] == WAITING:
            return self._inputs()
        name = run.node[i]
        book = self._books.nodes.get(name)
        what = self._books.refusal(run, i) or self._unserved(name)
        if book is None or what:
            return Reason("node", name, what=what or "not there")
        limit = run.spec.limit
        if limit is not None and run.running >= limit:
            return Reason("limit", name, self._own(), what=str(limit))
        if book.is_full:
            return self._slot(book)
        if self._books.resting.turn(book) is None:
            return self._alone(book)
        return self._turn(book) or self._room(book) or Reason("due", name)

    def _inputs(self) -> Reason:
        run, i = self._run, self._i
        others, outline = [], run.spec.outline
        if outline is not None:
            preds = outline.pred_of[outline.pred_ptr[i] : outline.pred_ptr[i + 1]]
            for u in dict.fromkeys(preds.tolist()):
                if run.state[u] != DONE:
                    others.append(self._other(run, u))
        what = "" if others else "what is not of its run, or is about to come"
        until = max((other.until for other in others), default=None)
        return Reason("inputs", run.node[i], tuple(others), what=what, until=until)

    def _unserved(self, name: str) -> str:
        """Why a node is sent nothing; "" if it is served."""
        book = self._books.nodes.get(name)
        if book is None:
            return "not there"
        if not book.up:
            return "not there yet" if book.expected else "gone"
        return "" if self._takes(name) else "paused"

    def _own(self) -> tuple[Other, ...]:
        """What runs of the run."""
        return tuple(
            self._other(self._run, k)
            for book in self._books.nodes.values()
            for token, k in book.running
            if token == self._run.spec.token
        )

    def _slot(self, book: NodeBook) -> Reason:
        others = tuple(
            [self._member(book, member) for member in book.running]
            + [self._member(book, m) for m, x in book.lingering.items() if x.slot]
        )
        until = min((other.until for other in others), default=None)
        return Reason("slot", book.node.name, others, until=until)

    def _alone(self, book: NodeBook) -> Reason:
        """For whom it waits where nothing is sent, for one function runs alone."""
        alone = (self._run.spec.token, self._i) in self._books.resting.loners
        others = tuple(self._member(book, m) for m in (*book.running, *book.ahead))
        until = max((other.until for other in others), default=None)
        what = "it" if alone else "one"
        return Reason("alone", book.node.name, others, what=what, until=until)

    def _turn(self, book: NodeBook) -> Reason | None:
        """Behind which function it has to wait for its turn, though a slot is free."""
        run, i, name = self._run, self._i, book.node.name
        if run.spec.eager and run.spec.adaptive:
            return None
        if not run.spec.adaptive:
            first = next(run.ahead_of(name, None, 1), i)
            if first != i:
                return self._behind(run, first, "which is before it by plan")
            unsure = next(iter(book.unsure), None)
            if unsure is None:
                return None
            other = self._member(book, unsure)
            what = "whose inputs are under way"
            return Reason("turn", name, (other,), what=what, until=other.until)
        for tries, k in enumerate(run.candidates(name)):
            if tries == TRIES:
                what = f"which is the first of {TRIES} that it may not pass"
                return self._behind(run, next(run.candidates(name)), what)
            late = blocking(book, run, k, self._books.now)
            if late is not None and k == i:
                what = f"which is to start by {run.latest[late]:.6g} s, and would not"
                return self._behind(run, late, what)
            if late is not None:
                what = f"which would make {_label(run, late)!r} late if it began"
                return self._behind(run, k, what)
            if k == i:
                break
        return None

    def _behind(self, run: RunBook, k: int, what: str) -> Reason:
        until = max(run.start[k], self._at)
        other = self._other(run, k)
        return Reason("turn", run.node[k], (other,), what=what, until=until)

    def _room(self, book: NodeBook) -> Reason | None:
        """Of what too little is free, or which tracker refuses."""
        run, i, name = self._run, self._i, book.node.name
        demand = run.demand(i, book.node)
        linger = book.lingering.get((run.spec.token, i))
        if linger is not None and linger.demand != demand:
            other = self._member(book, (run.spec.token, i))
            what = "for it asks for more now"
            return Reason("turn", name, (other,), what=what, until=other.until)
        if linger is not None:
            demand = {}  # it has that
        shared = run.trackers[0]
        if not shared.available(name, demand):
            short = [r for r in demand if not shared.available(name, {r: demand[r]})]
            rows = shared.snapshot()[name]
            wants = short or list(demand)  # it is short of some that go together
            found = [
                Short(
                    r, demand[r], *_figures(rows.get(r)), self._holders(book, r)
                )
                for r in wants
            ]  # fmt: skip
            ends = [_until(one) for one in found]
            known = [end for end in ends if end is not None]
            until = max(known) if len(known) == len(ends) else None
            return Reason("room", name, short=tuple(found), until=until)
        refusing = run.refusing.get(run.need[i])
        if refusing is None:
            return None
        what = f"the tracker {type(run.trackers[refusing]).__name__}"
        return Reason("tracker", name, what=what)

    def _holders(
        self, book: NodeBook, resource: str
    ) -> tuple[tuple[Other, float], ...]:
        return tuple(
            (self._member(book, member), held[resource])
            for member, held in held_of(book, self._books.runs)
            if held.get(resource)
        )

    # --------------------------------------------------------------- other nodes
    def _elsewhere(self, arrives: Arrives) -> tuple[Elsewhere, ...]:
        """Other nodes that could run the function now."""
        run, i = self._run, self._i
        if is_tied(run, i):
            return ()
        found = []
        here = self._books.nodes.get(run.node[i])
        for name in self.free():
            if name == run.node[i]:
                continue
            seconds = run.seconds(i)
            if here is not None:
                seconds *= _speed(run, i, here) / _speed(
                    run, i, self._books.nodes[name]
                )
            away = arrives(run.spec.token, i, name)
            found.append(Elsewhere(name, self._at + away + seconds))
        return tuple(sorted(found, key=lambda offer: offer.end))

    def free(self) -> Iterator[str]:
        """Nodes that could run the function now, by what is free there."""
        run, i = self._run, self._i
        for name in sorted(run.able(i)):
            if self._unserved(name) or self._books.nodes[name].is_full:
                continue
            with suppress(Exception):
                demand = run.demand(i, self._books.nodes[name].node)
                if all(x.available(name, demand) for x in run.trackers):
                    yield name

    # -------------------------------------------------------------------- others
    def _other(self, run: RunBook, k: int) -> Other:
        """A function of a live run, and how it stands."""
        name, state = run.node[k], run.state[k]
        if state == SENT:
            return self._member(self._books.nodes[name], (run.spec.token, k))
        how = {
            WAITING: "waits", READY: f"waits for {name}", FAILED: "failed",
        }.get(state, "was cancelled")  # fmt: skip
        end = max(run.end[k], self._at + run.seconds(k)) + run.since - self._run.since
        return Other(_label(run, k), self._of(run), how, end)

    def _member(self, book: NodeBook, member: Member) -> Other:
        """What holds something of a node, and how it stands."""
        token, k = member
        run, now, since = self._books.runs.get(token), self._books.now, self._run.since
        linger = book.lingering.get(member)
        if linger is not None:
            end = expected_end(linger.start, linger.seconds, now) - since
            return Other(linger.label, self._of(run, token), TAKEN_BACK, end)
        assert run is not None
        begun = member in book.running
        start = run.start[k] if begun else now - run.since
        end = expected_end(start, run.seconds(k), now - run.since) + run.since - since
        how = f"{'runs' if begun else 'is next'} on {book.node.name}"
        return Other(_label(run, k), self._of(run), how, end)

    def _of(self, run: RunBook | None, token: str = "") -> str:
        if run is self._run:
            return ""
        return token if run is None else run.spec.token


def _label(run: RunBook, i: int) -> str:
    outline = run.spec.outline
    return str(i) if outline is None else outline.labels[i]


def _speed(run: RunBook, i: int, book: NodeBook) -> float:
    """The speed of a node for a function."""
    outline = run.spec.outline
    if outline is not None and run.spec.option:
        option = outline.option_ptr[i] + run.option(i)
        if outline.by_gpu[outline.option_class[option]]:
            return book.node.gpu_speed
    return book.node.speed


def _until(one: Short) -> float | None:
    """When enough will be free, if all ends as it is expected to; None: it won't."""
    excess = one.claimed + one.needs - one.capacity * (1 + TOLERANCE)
    for other, amount in sorted(one.holders, key=lambda held: held[0].until):
        excess -= amount
        if excess <= 0.0:
            return other.until
    return None


def _figures(
    row: tuple[float, float, float | None] | None,
) -> tuple[float, float, float | None]:
    """``(claimed, capacity, observed)`` of a row of a snapshot."""
    capacity, claimed, observed = row or (0.0, 0.0, None)
    return claimed, capacity, observed
