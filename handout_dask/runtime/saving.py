"""Saving: a run that has ended, with its results, as one file; and what reads it.

The file is sealed: all of it is checked before anything in it is unpickled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, Self

from distributed.protocol import pickle

from handout_dask.environment import environment
from handout_dask.errors import HandoutError, JournalError
from handout_dask.events import DONE, Hold, Span
from handout_dask.history import History
from handout_dask.plans import Plan
from handout_dask.runtime.places import Place
from handout_dask.runtime.signing import key_of
from handout_dask.runtime.submission import from_keepsake, keepsake_of
from handout_dask.sealed import seal, unseal

KIND = "saved run"
AT_ONCE = 64  # results that are fetched together


class Saved(NamedTuple):
    """What a file has of a run besides its results."""

    token: str
    keepsake: bytes
    graph: Any  # None: that of the plan
    restored: frozenset[Hashable]
    spans: list[Span]
    holds: list[Hold]
    replans: list[Any]
    state: list[str]
    cancelled: bool
    failures: dict[int, tuple[Any, ...]]
    parts: dict[int, int]  # by function, how many parts its result has
    environment: dict[str, str]


class Saving:
    """What a Run has to be saved and loaded. Base of Run, whose fields these are."""

    plan: Plan
    token: str
    graph: Any
    spans: list[Span]
    holds: list[Hold]
    replans: list[Any]
    restored: frozenset[Hashable] = frozenset()  # ids, of a run that was gone on with
    executor: Any = None  # its own, if `handout_dask.resume` made it
    environment: dict[str, str] | None = None  # of a run that was loaded
    report: Callable[..., Any]
    status: Any
    _client: Any
    _state: list[str]
    _left: int
    _failures: Any
    _futures: dict[int, Any]
    _functions: Any
    _kept: Collection[int]
    _on_failure: str
    _cancelled: bool
    _do: Callable[..., Any]
    _wait: Callable[..., Coroutine[Any, Any, Any]]
    _result: Callable[[int], Coroutine[Any, Any, Any]]

    def save(self, path: Any) -> Any:
        """Wait until all has ended, and write the run with its results as one file.

        Results that are not kept, or were released, are left out. `Run.load` reads it.

        Parameters
        ----------
        path : str or path
            Or any URL that fsspec knows. If it ends in ``.json`` the file has no
            results, but is in an open format (see `handout_dask.formats.runfile`), and
            ``handout report`` shows it without trusting who wrote it.

        Raises
        ------
        HandoutError
            If a result can't be pickled, or the file can't be written.
        """
        return self._do(self._save, Place("path", path))

    async def _save(self, place: Place) -> None:
        await self._wait()
        made = self.environment or environment(datetime.now().astimezone())
        if place.url.endswith(".json"):
            await _write_open(place, self.report(), self.token, self.status, made)
            return
        parts: list[Any] = []
        counts: dict[int, int] = {}
        due = [i for i in sorted(self._futures) if self._has(i)]
        for first in range(0, len(due), AT_ONCE):
            for i, result in await self._fetch(due[first : first + AT_ONCE]):
                frames = _frames(self._functions[i].id, result)
                counts[i] = len(frames)
                parts += frames
        head = bytes(pickle.dumps(self._saved(counts, made)))
        about = {"kind": KIND, "run": self.token}
        sealed = seal(about, [head, *parts], key_of(KIND))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: place.write(*sealed))

    def _has(self, i: int) -> bool:
        return self._state[i] == DONE and i in self._kept

    async def _fetch(self, some: list[int]) -> list[tuple[int, Any]]:
        futures = [self._futures[i] for i in some]
        with suppress(Exception):
            found = await self._client.gather(futures, errors="skip", asynchronous=True)
            if len(found) == len(some):
                return list(zip(some, found, strict=True))
        return [(i, await self._result(i)) for i in some]  # it says what is wrong

    def _saved(self, counts: dict[int, int], made: dict[str, str]) -> Saved:
        failures = {}
        for i in range(len(self._state)):
            if i in self._failures:
                failures[i] = self._failures.portable(i)
        other = self.graph if self.graph is not self.plan.problem.graph else None
        return Saved(
            self.token,
            keepsake_of(self.plan, set(self._kept), self._on_failure),
            other, self.restored, self.spans, self.holds, self.replans, self._state,
            self._cancelled, failures, counts, made,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Any, *, trust: bool = False) -> Self:
        """The run that `save` wrote, with results, errors and report.

        Parameters
        ----------
        path : str or path
            Or any URL that fsspec knows.
        trust : bool
            Whether to take a file that another user wrote: it holds pickled code and
            results, so whoever could write it can do here what you can.

        Raises
        ------
        JournalError
            If it is torn, or no such file; UntrustedError if another user wrote it.
        """
        place = Place("path", path)
        if place.url.endswith(".json"):
            raise JournalError(
                f"{place.url!r} is in the open format, which holds no results: "
                "`handout report` shows it. To load a run, save it under a name that "
                "does not end in .json"
            )
        data = place.read()
        if data is None:
            raise JournalError(f"there is no file {place.url!r}")
        key = None if trust else key_of(KIND)
        _, parts = unseal(data, key, place.url, {"kind": KIND})
        try:
            saved: Saved = pickle.loads(parts[0])
            plan, kept, on_failure = from_keepsake(saved.keepsake)
        except Exception as error:
            raise JournalError(
                f"the run in {place.url!r} can't be loaded here: "
                f"{type(error).__name__}: {error}. Are its packages installed?"
            ) from error
        futures, at = {}, 1
        for i, count in saved.parts.items():
            futures[i] = Kept(parts[at : at + count])
            at += count
        make: Any = cls
        run = make(Absent(), plan, saved.token, futures, kept, on_failure, History())
        run._take_saved(saved)
        return run

    def _take_saved(self, saved: Saved) -> None:
        self.spans, self.holds, self.replans = saved.spans, saved.holds, saved.replans
        self.restored, self.environment = saved.restored, saved.environment
        if saved.graph is not None:
            self.graph = saved.graph
            self._functions = tuple(self.graph[f.id] for f in self._functions)
        self._state[:], self._left = saved.state, 0
        self._cancelled = saved.cancelled
        for i, (error, trace, text, node, attempt) in saved.failures.items():
            self._failures.add(i, (error, trace, text), node, attempt)


async def _write_open(place: Place, *about: Any) -> None:
    """Write a run without its results, in the open format."""
    from handout_dask.formats.runfile import run_to_dict

    def write() -> None:
        text = json.dumps(run_to_dict(*about), allow_nan=False)
        place.write(text.encode())

    await asyncio.get_running_loop().run_in_executor(None, write)


def _frames(id: Hashable, result: Any) -> list[Any]:
    """A result as parts of a file."""
    buffers: list[Any] = []
    try:
        data = pickle.dumps(
            result, protocol=5, buffer_callback=lambda b: buffers.append(b.raw())
        )
    except Exception as error:
        raise HandoutError(
            f"the result of function {id!r} is a {type(result).__name__} that can't be "
            f"pickled, so the run can't be saved: {type(error).__name__}: {error}"
        ) from error
    return [data, *buffers]


class Kept:
    """A result in a file, in place of a future; unpickled anew each time."""

    def __init__(self, parts: list[memoryview]) -> None:
        self._parts = parts

    def get(self) -> Any:
        """The result."""
        data, *buffers = self._parts
        return pickle.loads(data, buffers=[bytearray(part) for part in buffers])

    def release(self) -> None:
        """It is not needed any more."""


class Absent:
    """In place of a client: there is no cluster, and nothing is asked of one."""

    status, id, loop = "running", "", None

    @property
    def scheduler(self) -> Absent:
        """Answers what runs ask of theirs."""
        return self

    async def handout_explain(self, **about: Any) -> None:
        """The run is not live."""

    async def gather(self, futures: list[Kept], **how: Any) -> list[Any]:
        """The results of some."""
        return [future.get() for future in futures]

    def sync(self, method: Callable[..., Any], *args: Any) -> Any:
        """The result of a coroutine function; also where an event loop runs."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(method(*args))
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(method(*args))).result()
