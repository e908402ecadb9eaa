"""Durables: results in files of their own, written by the workers that made them.

A file is taken only if it is whole, and of the very function and run that it shall be.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from distributed.protocol import pickle

from handout_dask.errors import FunctionError, HandoutError, JournalError
from handout_dask.runtime.places import Place
from handout_dask.sealed import seal, unseal, verify

logger = logging.getLogger(__name__)

RESULTS = "results"  # the folder of a run's durable results
PROOF = "run.json"  # by which a process knows that it sees the folder of the run
KIND = "result"

_seen: set[tuple[str, str]] = set()  # folders that this process has found


@lru_cache(maxsize=64)
def _folder(url: str) -> Place:
    return Place("journal", url) / RESULTS


class Store(NamedTuple):
    """Where the results of a run are kept, as it travels to workers."""

    url: str  # the run's folder
    run: str
    key: bytes | None  # by which files are signed; None trusts all
    proof: str

    def __repr__(self) -> str:  # Dask's logs show what fails, and the key is a secret
        return f"Store({self.url!r}, {self.run!r})"

    def file(self, name: str) -> Place:
        """The file of a result."""
        return _folder(self.url) / name

    def check(self, who: str) -> None:
        """See whether this process sees the folder, and not one of the same name.

        Raises
        ------
        HandoutError
            If it does not.
        """
        if (self.url, self.proof) in _seen:
            return
        found = (Place("journal", self.url) / PROOF).read()
        if found is None or self.proof.encode() not in found:
            raise HandoutError(
                f"{who} does not see in {self.url!r} what the client wrote there. Give "
                "a journal that the client, the scheduler and all workers reach"
            )
        _seen.add((self.url, self.proof))


class Durable(NamedTuple):
    """That a result shall be kept, as it travels with a call."""

    store: Store
    name: str
    strict: bool  # the user asked for this one: that it can't be kept is an error

    def keep(self, result: Any, label: str) -> None:
        """Write a result.

        Raises
        ------
        FunctionError
            If it can't be pickled, and the user asked for it to be kept.
        HandoutError
            If it can't be written.
        """
        frames: list[Any] = []
        try:
            data = pickle.dumps(
                result, protocol=5, buffer_callback=lambda b: frames.append(b.raw())
            )
        except Exception as error:
            text = (
                f"function {label} returned a {type(result).__name__} that can't be "
                f"pickled, so it can't be kept: {type(error).__name__}: {error}"
            )
            if self.strict:
                raise FunctionError(f"{text}. Leave out durable=True") from error
            logger.warning("%s. Resumed, its run runs it again.", text)
            return
        self.store.check(f"the worker of function {label}")
        about: dict[str, Any] = self._about()
        about["writable"] = [not frame.readonly for frame in frames]
        assert self.store.key is not None
        file = self.store.file(self.name)
        file.write(*seal(about, [data, *frames], self.store.key), sync=False)

    def _about(self) -> dict[str, Any]:
        return {"kind": KIND, "run": self.store.run, "name": self.name}

    def check(self) -> None:
        """See whether the result can be had, without holding it.

        Raises
        ------
        HandoutError
            If it can't; names its file.
        """
        file = self.store.file(self.name)
        verify(file.chunks(), self.store.key, file.address, self._about())

    def parts(self) -> list[Any] | None:
        """What is kept, still pickled: that, and its buffers; None if nothing is.

        Raises
        ------
        JournalError
            If the file is refused; names it.
        """
        file = self.store.file(self.name)
        data = file.read()
        if data is None:
            return None
        told, parts = unseal(data, self.store.key, file.address, self._about())
        writable = told.get("writable")
        if not isinstance(writable, list) or len(writable) != len(parts) - 1:
            raise JournalError(f"file {file.address!r} holds no result")
        whole = list(zip(parts[1:], writable, strict=True))
        return [parts[0], *(bytearray(part) if w else part for part, w in whole)]


@dataclass(frozen=True, slots=True)
class Restored:
    """The code of a function whose result was kept: reads it."""

    durable: Durable

    def __call__(self) -> Any:
        """The result.

        Raises
        ------
        HandoutError
            If its file is gone, or is refused, since it was looked at.
        """
        parts = self.durable.parts()
        if parts is None:
            file = self.durable.store.file(self.durable.name)
            raise HandoutError(f"file {file.address!r}, a kept result, is gone")
        return pickle.loads(parts[0], buffers=parts[1:])


def skipped() -> None:
    """The code of a function that nothing needs any more: its readers have results."""
