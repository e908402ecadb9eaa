"""Keys: which function of which live run a Dask key is. Knows no scheduler."""

from __future__ import annotations

from typing import Any

from handout_dask.runtime.records import LiveRun


class Keys:
    """The keys of live runs: of functions, and of elements cut out of their results."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, LiveRun] = {}
        self._by_cut: dict[str, LiveRun] = {}
        self._by_key: dict[Any, tuple[LiveRun, int]] = {}

    def __len__(self) -> int:
        """How many entries there are; none when no run is live."""
        return len(self._by_prefix) + len(self._by_cut) + len(self._by_key)

    def add(self, run: LiveRun) -> None:
        """Know the keys of a run."""
        if run.keys is not None:
            self._by_key.update((k, (run, i)) for i, k in enumerate(run.keys))
            return
        self._by_prefix.update(dict.fromkeys(run.spec.prefix, run))
        self._by_cut[run.spec.cut_prefix] = run

    def drop(self, run: LiveRun) -> None:
        """Know them no more."""
        for i, key in enumerate(run.keys or ()):
            if self._by_key.get(key) == (run, i):
                del self._by_key[key]
        for prefix in set(run.spec.prefix):
            self._by_prefix.pop(prefix, None)
        self._by_cut.pop(run.spec.cut_prefix, None)

    def forget(self, key: Any) -> None:
        """A task is gone; another one of the same key is not the run's."""
        self._by_key.pop(key, None)

    def find(self, key: Any) -> tuple[LiveRun, int] | None:
        """The run and the number of a function; None if the key is none's."""
        if type(key) is tuple:
            run = self._by_prefix.get(key[0])
            if run is not None:
                return run, key[1]
        return self._by_key.get(key) if self._by_key else None

    def member(self, key: Any) -> tuple[str, int] | None:
        """The token of the run, and the number, by a key that may be a list."""
        found = self.find(tuple(key) if isinstance(key, list) else key)
        return None if found is None else (found[0].spec.token, found[1])

    def run_of(self, key: Any) -> LiveRun | None:
        """The run that a function, or an element that is cut out, belongs to."""
        found = self.find(key)
        if found is not None:
            return found[0]
        return self._by_cut.get(key[0]) if type(key) is tuple else None

    def is_cut(self, key: Any) -> bool:
        """Whether it is of an element that is cut out."""
        return type(key) is tuple and key[0] in self._by_cut

    def of(self, run: LiveRun) -> set[Any]:
        """What to look for among all keys: whole keys, or their first parts."""
        return set(run.keys or (*run.spec.prefix, run.spec.cut_prefix))
