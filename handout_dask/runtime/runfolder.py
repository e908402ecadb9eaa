"""The folder of a run in a journal, as its client writes and reads it.

It holds who it is (`run.json`), the graph with the user's code, pickled and signed,
what happened (`log/`, by the scheduler), and durable results (`results/`, by workers).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from distributed.protocol import pickle

from handout_dask import fingerprints
from handout_dask.errors import HandoutError, JournalError
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.journal import Past, from_bytes
from handout_dask.runtime.durables import PROOF, RESULTS, Durable, Store
from handout_dask.runtime.freezing import Freezer
from handout_dask.runtime.places import Place
from handout_dask.runtime.signing import key_of, remember
from handout_dask.sealed import seal, unseal

GRAPH, LOG = "graph", "log"  # a file, a folder
DURABLE = ("all", "marked")


class Prints(NamedTuple):
    """What each function of a graph is by itself, by its place of insertion."""

    content: list[str]
    code: list[str]

    @classmethod
    def of(cls, graph: Graph, content: list[str] | None = None) -> Prints:
        """Those of a graph; `content` as it was when the graph was pickled, if so."""
        known: dict[int, str] = {}
        code = []
        for function in graph:
            made = []
            for k in range(len(function.alternatives)):
                variant = function.variant(k)
                if id(variant) not in known:
                    known[id(variant)] = fingerprints.of_code(variant)
                made.append(known[id(variant)])
            code.append("".join(made))
        return cls(_contents(graph) if content is None else content, code)

    def names(self, graph: Graph) -> dict[Hashable, str]:
        """By id, what the result of each function is called."""
        links = graph.links()
        own = [self.content[k] + self.code[k] for k in links.position]
        chained = fingerprints.chained(links, own)
        return {f.id: name for f, name in zip(links.functions, chained, strict=True)}


def _contents(graph: Graph) -> list[str]:
    freeze, out = Freezer(), []
    for function in graph:
        variants = range(len(function.alternatives))
        codes = [freeze.code(function, function.variant(k)) for k in variants]
        out.append(fingerprints.content(function, codes, freeze.literals(function)))
    return out


class Told(NamedTuple):
    """What the client told of a run when it began."""

    graph: Graph
    prints: Prints
    keep: Any  # ids whose results are asked for, or "all"
    about: dict[str, Any]  # how it was submitted
    settings: dict[str, bytes]  # of its executor, each pickled


class RunFolder:
    """One run's folder.

    Parameters
    ----------
    journal : Place
        The folder of all runs.
    run : str
        The token of the run.
    """

    def __init__(self, journal: Place, run: str) -> None:
        self.run, self.place = run, journal / run

    def create(self, told: Told) -> str:
        """Write what must be known to resume the run; returns its proof."""
        self.tell(told)
        proof, graph = secrets.token_hex(8), told.graph
        who = {"format": "handout-run 1", "run": self.run, "proof": proof}
        more = {"functions": len(graph), "graph": graph.name}
        (self.place / PROOF).write(json.dumps({**who, **more}).encode())
        return proof

    def tell(self, told: Told) -> None:
        """Write what is to be run, in place of what was, if there was any."""
        whole = list(told.graph), told.graph.name, told.prints, *told[2:]
        frozen = bytes(pickle.dumps(whole))
        about = {"kind": GRAPH, "run": self.run}
        (self.place / GRAPH).write(*seal(about, [frozen], key_of(self.run)))

    def exists(self) -> bool:
        """Whether there is such a run."""
        return (self.place / PROOF).read() is not None

    def proof(self) -> str:
        """By which other processes know the folder.

        Raises
        ------
        JournalError
            If there is no such run.
        """
        data = (self.place / PROOF).read()
        if data is None:
            raise JournalError(f"there is no run {self.run!r} at {self.place.url!r}")
        try:
            found = json.loads(data)
            if found["run"] != self.run:
                raise ValueError(f"it is of run {found['run']!r}")
            return str(found["proof"])
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"file {(self.place / PROOF).address!r} is torn or foreign: {error}"
            ) from None

    def told(self, trust: bool) -> Told:
        """What the client told.

        Raises
        ------
        JournalError
            If it can't be read; UntrustedError if it was written by somebody else, and
            is not to be trusted.
        """
        self.proof()
        file = self.place / GRAPH
        data = file.read()
        if data is None:
            raise JournalError(f"file {file.address!r}, the graph of the run, is gone")
        key, about = None if trust else key_of(self.run), {"kind": GRAPH}
        _, parts = unseal(data, key, file.address, {**about, "run": self.run})
        try:
            functions, name, prints, *more = pickle.loads(parts[0])
        except Exception as error:
            raise JournalError(
                f"the graph in {file.address!r} can't be loaded here: "
                f"{type(error).__name__}: {error}. Are its packages installed?"
            ) from error
        return Told(Graph(functions, name), prints, *more)

    def store(self, proof: str, trust: bool = False) -> Store:
        """Where results are, for workers."""
        key = None if trust else key_of(self.run)
        return Store(self.place.address, self.run, key, proof)

    def results(self) -> set[str]:
        """The names of results that are there, whole or not."""
        return set((self.place / RESULTS).names())

    def past(self) -> Past:
        """What happened in the run so far.

        Raises
        ------
        JournalError
            If a file of it is refused.
        """
        past, folder = Past(), self.place / LOG
        for name in folder.names():
            file = folder / name
            try:
                past.take(from_bytes(file.read() or b"", file.address))
            except JournalError as error:
                raise JournalError(
                    f"{error}. Move it away to resume the run without what it tells; "
                    "results are kept beside it"
                ) from None
        return past


class Entry(NamedTuple):
    """A run in a journal, as it is submitted."""

    store: Store
    names: Mapping[Hashable, str]  # of results, by id
    all: bool  # whether the results of all functions are kept

    def durable(self, function: Function) -> Durable | None:
        """How the result of a function is kept, if it is."""
        if not (self.all or function.durable):
            return None
        return Durable(self.store, self.names[function.id], function.durable)

    def info(self, functions: Iterable[Function]) -> dict[str, Any]:
        """What the scheduler needs to write what happens to these, by their numbers."""
        names = [self.names[f.id] for f in functions]
        url, run, _, proof = self.store
        return {"url": url, "run": run, "proof": proof, "names": names}


class Journal:
    """What an executor's `journal` and `durable` say, checked.

    Parameters
    ----------
    where : str or path
        A folder, or a URL that fsspec knows.
    durable : {"all", "marked"}
        Whose results are kept.
    """

    def __init__(self, where: Any, durable: str = "all") -> None:
        if durable not in DURABLE:
            raise HandoutError(f"durable={durable!r} must be one of {DURABLE}")
        self.place = Place("journal", where)
        self.all = durable == "all"
        if self.place.is_local and os.path.isfile(self.place.path):
            raise HandoutError(
                f"journal={where!r} is a file; give a folder, or a URL of one"
            )

    def at(self, where: Any) -> Journal:
        """The same at another place."""
        return Journal(where, "all" if self.all else "marked")

    @classmethod
    def of(cls, where: Any, durable: str) -> Journal | None:
        """That of an executor, if it has one."""
        if where is not None:
            return cls(where, durable)
        if durable != "all":
            raise HandoutError(f"durable={durable!r} goes with journal=, a folder")
        return None


def begin(
    journal: Journal,
    run: str,
    graph: Graph,
    keep: Sequence[Hashable],
    about: dict[str, Any],
    settings: Mapping[str, Any],
) -> Entry:
    """Begin the folder of a new run.

    Parameters
    ----------
    journal : Journal
        Where.
    run : str
        Its token.
    graph : Graph
        What runs.
    keep : sequence of ids
        Whose results are asked for.
    about : dict
        How it was submitted.
    settings : mapping
        Of its executor; what can't be pickled is left out.
    """
    frozen = {}
    for what, value in settings.items():
        with suppress(Exception):
            frozen[what] = bytes(pickle.dumps(value))
    kept = "all" if len(keep) == len(graph) else list(keep)
    told = Told(graph, Prints.of(graph), kept, about, frozen)
    folder = RunFolder(journal.place, run)
    store = folder.store(folder.create(told))
    remember(journal.place.address)
    return Entry(store, told.prints.names(graph), journal.all)
