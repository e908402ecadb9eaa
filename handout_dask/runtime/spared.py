"""Spared: tasks too short to be planned, from which is learned while Dask runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask.utils import key_split

from handout_dask.dispatch import Dispatcher
from handout_dask.history import History, kind_of

LIGHT = 0.005  # s; a graph whose tasks take less on average is not worth a plan


class Spared:
    """Graphs without costs that are known to take no time.

    What a plan could win is less than what it costs to follow it.

    Parameters
    ----------
    history : History
        Knows what tasks take, and learns it.
    dispatcher : Dispatcher
        Knows the nodes.
    names : mapping
        Names of nodes by the addresses of their workers.
    """

    def __init__(
        self, history: History, dispatcher: Dispatcher, names: Mapping[str, str]
    ) -> None:
        self._history, self._dispatcher, self._names = history, dispatcher, names
        self._tasks: dict[Any, str] = {}  # names by key

    def take(self, keys: Sequence[Any]) -> bool:
        """Take the tasks of a graph, if they are short; whether it did."""
        named = {key: key_split(key) for key in keys}
        seconds = {name: self._history.seconds(name) for name in set(named.values())}
        known = [s for s in map(seconds.get, named.values()) if s is not None]
        if len(known) < len(keys) or sum(known) > LIGHT * len(known):
            return False
        self._tasks.update(named)
        return True

    def follow(self, key: Any, finish: str, about: Mapping[str, Any]) -> bool:
        """A task changed its state; whether it is one of these, to learn from."""
        if key not in self._tasks:
            return False
        if finish == "memory":
            self._learn(self._tasks.pop(key), str(key), about)
        elif finish in ("erred", "forgotten"):
            del self._tasks[key]
        return True

    def _learn(self, name: str, label: str, about: Mapping[str, Any]) -> None:
        spans = [s for s in about.get("startstops") or () if s["action"] == "compute"]
        node = self._names.get(about.get("worker", ""), "")
        book = self._dispatcher.nodes.get(node)
        if spans and book is not None:
            seconds = spans[-1]["stop"] - spans[0]["start"]
            kind, speed = kind_of(book.node), book.node.speed
            self._history.observe(name, label, kind, seconds, speed=speed)

    def clear(self) -> None:
        """Forget the tasks, not what was learned."""
        self._tasks.clear()
