"""Standing: where a function of a live run stands, and for what it waits.

As data, and as text for people; `waiting` finds it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from handout_dask.lacks import MOST


@dataclass(frozen=True, slots=True)
class Other:
    """Another function, and how it stands.

    Attributes
    ----------
    function : str
        Its id as text.
    run : str
        The token of its run; "" is that of the function that waits.
    how : str
        What it does, such as ``runs on n0``; "" if that is clear.
    until : float
        When it is expected to end [s since the run of the function that waits began].
    """

    function: str
    run: str
    how: str
    until: float

    def __str__(self) -> str:
        of = f" of run {self.run}" if self.run else ""
        return f"{self.function!r}{of}{f' ({self.how})' if self.how else ''}"


@dataclass(frozen=True, slots=True)
class Short:
    """A resource of which a node has too little free.

    Attributes
    ----------
    resource : str
        Its name.
    needs, claimed, capacity : float
        What the function needs, what is claimed, and what there is in all.
    observed : float or None
        How much is really used; None if that is not measured.
    holders : tuple of (Other, float)
        Who holds how much of it.
    """

    resource: str
    needs: float
    claimed: float
    capacity: float
    observed: float | None
    holders: tuple[tuple[Other, float], ...]

    def __str__(self) -> str:
        seen = "" if self.observed is None else f", {self.observed:.6g} used"
        held = [f"{amount:.6g} by {other}" for other, amount in self.holders]
        return (
            f"{self.resource}: needs {self.needs:.6g} of {self.capacity:.6g}, "
            f"{self.claimed:.6g} claimed{seen}: {_some(held)}"
        )


@dataclass(frozen=True, slots=True)
class Reason:
    """What a function waits for.

    Attributes
    ----------
    kind : str
        ``inputs``: functions that it reads, which are `others`. ``node``: its node,
        which is `what` (gone, paused, not there yet). ``slot``: a slot of its node; all
        are taken by `others`. ``room``: resources of its node that are `short`.
        ``tracker``: the run's own tracker, `what`, refuses. ``rest``: until it is tried
        again, after `what`. ``alone``: others to end, for it runs alone on its node, or
        one of them does. ``turn``: its turn behind
        `others`, for `what`. ``limit``: the run's max_concurrency, `what`. ``due``:
        nothing; it is sent at once.
    node : str
        Its node.
    others : tuple of Other
        See above.
    short : tuple of Short
        See above.
    what : str
        See above.
    until : float or None
        When that is expected to be over [s since its run began], if that is known.
    """

    kind: str
    node: str
    others: tuple[Other, ...] = ()
    short: tuple[Short, ...] = ()
    what: str = ""
    until: float | None = None

    @property
    def head(self) -> str:
        """For what it waits, and until when."""
        until = "" if self.until is None else f" until {self.until:.6g} s"
        if self.kind == "due":
            return f"is sent to {self.node} next"
        if self.kind == "rest":
            return f"rests{until}"
        return f"waits{'' if self.kind == 'inputs' else f' for {self.node}'}{until}"

    @property
    def why(self) -> str:
        """What holds it back."""
        names = _some([str(other) for other in self.others])
        return {
            "inputs": f"it reads {names or self.what}",
            "node": f"that is {self.what}",
            "slot": f"its slots are taken: {names}",
            "room": f"too little is free of {'; '.join(map(str, self.short))}",
            "tracker": f"{self.what} refuses",
            "rest": self.what,
            "alone": f"{self.what} runs alone there; {names} runs there now",
            "turn": f"its turn is after {names}, {self.what}",
            "limit": f"of its run only {self.what} may run at once",
            "due": "nothing holds it back",
        }[self.kind]

    def __str__(self) -> str:
        return f"{self.head}: {self.why}"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another node that could run a function now, and when it would end there [s]."""

    node: str
    end: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a function of a live run stands.

    Attributes
    ----------
    function : str
        Its id as text.
    state : str
        ``done``, ``failed``, ``cancelled``, ``runs``, ``sent`` or ``waits``.
    node : str
        Where it runs or ran, or waits to run.
    start, end : float
        When it began and ended, or is expected to [s since its run began].
    reason : Reason or None
        What it waits for; None unless it does.
    elsewhere : tuple of Elsewhere
        Other nodes that could run it now, earliest end first; () unless it waits for
        its node.
    """

    function: str
    state: str
    node: str
    start: float
    end: float
    reason: Reason | None = None
    elsewhere: tuple[Elsewhere, ...] = ()

    def __str__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> Iterator[str]:
        who, at = f"function {self.function!r}", f"on {self.node}"
        if self.state == "done":
            yield f"{who} ran {at} from {self.start:.6g} to {self.end:.6g} s"
        elif self.state == "runs":
            yield f"{who} runs {at} since {self.start:.6g} s, until {self.end:.6g} s"
        elif self.state == "sent":
            yield f"{who} was sent to {self.node}"
            if self.reason is not None:
                yield str(self.reason)
        elif self.reason is None:
            yield f"{who} {'failed' if self.state == 'failed' else 'was cancelled'}"
        else:
            offers = [self._offer(offer) for offer in self.elsewhere[:MOST]]
            yield "; ".join([f"{who} {self.reason.head}", *offers])
            yield self.reason.why

    def _offer(self, offer: Elsewhere) -> str:
        than = (offer.end > self.end) - (offer.end < self.end)
        when = {-1: "earlier", 0: "no earlier", 1: "later"}[than]
        return f"{offer.node} would end {when} ({offer.end:.6g} s)"


def _some(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return ", ".join(texts[:MOST]) + more
