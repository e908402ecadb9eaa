"""Resting: functions that wait until a time, shun nodes, or run alone. Pure.

Part of the books, as what was set back is to be treated there; decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from handout_dask import moving
from handout_dask.books import READY, WAITING, Member, NodeBook, RunBook
from handout_dask.setbacks import Rest

Turn = tuple[RunBook, int]


class Resting:
    """What was set back, in the books of nodes and runs.

    Parameters
    ----------
    nodes, runs : mapping
        The books, by name and by token.

    Attributes
    ----------
    loners : dict of Member to None
        Functions beside which nothing else may run on their node.
    """

    def __init__(
        self, nodes: Mapping[str, NodeBook], runs: Mapping[str, RunBook]
    ) -> None:
        self._nodes, self._runs = nodes, runs
        self.loners: dict[Member, None] = {}

    def rest(self, member: Member, until: float, why: str) -> None:
        """A function waits until then, and holds nothing meanwhile."""
        token, i = member
        self._runs[token].rests[i] = Rest(until, why)

    def wake(self, member: Member) -> bool:
        """A function has rested; whether it had to, and waits for its node again."""
        run = self._runs.get(member[0])
        if run is None or run.rests.pop(member[1], None) is None:
            return False
        if run.state[member[1]] not in (WAITING, READY):
            return False
        run.put(member[1])
        moving.find_able(run, member[1], self._nodes, self._runs)
        return True

    def shun(self, member: Member, names: tuple[str, ...]) -> str:
        """A function is not to run on these nodes if another can; returns its node."""
        run, i = self._runs[member[0]], member[1]
        run.shunned[i] = names
        self.leave(member)
        return run.node[i]

    def leave(self, member: Member) -> bool:
        """Let a function leave a node that it shuns, or that is left out."""
        run, i = self._runs[member[0]], member[1]
        waits = run.state[i] in (WAITING, READY)
        return waits and moving.shun(run, i, self._nodes, self._runs)

    def bar(self, name: str, why: str) -> set[str]:
        """Leave a node out, as far as others can run what it would.

        Returns the nodes that got work.
        """
        book = self._nodes.get(name)
        if book is None:
            return set()
        book.barred = why
        touched = set()
        for token, run in self._runs.items():
            for i, state in enumerate(run.state):
                waits = state in (WAITING, READY) and run.node[i] == name
                if waits and self.leave((token, i)):
                    touched.add(run.node[i])
        return touched

    def unbar(self, name: str) -> None:
        """A node is taken back in."""
        if name in self._nodes:
            self._nodes[name].barred = ""

    def avoid_barred(self, token: str) -> None:
        """A run begins that was planned for nodes that may be left out."""
        run = self._runs[token]
        barred = {name for name, book in self._nodes.items() if book.barred}
        for i in range(len(run.state) if barred else 0):
            if run.node[i] in barred:
                self.leave((token, i))

    def release(self, member: Member) -> None:
        """A function has ended: nothing of it is to be treated in a special way."""
        self.loners.pop(member, None)
        run = self._runs.get(member[0])
        if run is not None:
            run.rests.pop(member[1], None)
            run.shunned.pop(member[1], None)

    def drop(self, token: str) -> None:
        """A run is over."""
        for member in [m for m in self.loners if m[0] == token]:
            del self.loners[member]

    def turn(self, book: NodeBook) -> Turn | tuple[()] | None:
        """Whom a node is to run alone next; () is nobody.

        None if nothing may be sent to it: one is alone there, or waits until others
        have ended.
        """
        here = (*book.running, *book.ahead)
        if any(member in self.loners for member in here):
            return None
        for token, i in self.loners:
            run = self._runs.get(token)
            if run is None or run.state[i] != READY or run.node[i] != book.node.name:
                continue
            if run.spec.limit is not None and run.running >= run.spec.limit:
                continue
            return None if here or book.is_full else (run, i)
        return ()
