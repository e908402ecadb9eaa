"""Resuming: what a journal has of a run, and the graph of what is left to do."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

from handout_dask.errors import GraphError, HandoutError, JournalError
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.journal import Past
from handout_dask.remnant import remnant
from handout_dask.runtime.durables import Durable, Restored, Store, skipped
from handout_dask.runtime.places import Place
from handout_dask.runtime.runfolder import Entry, Journal, Prints, RunFolder, Told
from handout_dask.runtime.signing import journals

READERS = 8  # threads that look whether results are whole
TOLD = 5  # functions that a warning names
LOADS, CALL = 500.0, 1.0  # MB/s, ms: how long it takes to read a result, by guess


class Resumption(NamedTuple):
    """A run that is to be gone on with."""

    entry: Entry
    graph: Graph  # as the user knows it
    rest: Graph  # with what reads results in place of the functions that made them
    keep: Any
    about: dict[str, Any]  # how it was submitted
    restored: frozenset[Hashable]  # whose results are read
    left: frozenset[Hashable]  # what is run
    changed: tuple[Hashable, ...]  # whose code is another one than it was
    refused: tuple[str, ...]  # why files of results were not taken
    crashes: dict[Hashable, tuple[int, bool]]  # of what is run, and if alone

    def durable(self, function: Function) -> Durable | None:
        """How the result of a function is kept, if it is, and not there already."""
        return self.entry.durable(function) if function.id in self.left else None


def find(run: str, own: Journal | None, where: Any) -> Journal:
    """The journal that has a run.

    Raises
    ------
    JournalError
        If none has that is given, or that this user has used.
    """
    if not isinstance(run, str) or not run.isalnum():  # it becomes part of a path
        raise JournalError(f"{run!r} is no run; give what run.token was")
    if where is not None:
        return Journal(where) if own is None else own.at(where)
    tried = []
    if own is not None:
        if (RunFolder(own.place, run)).exists():
            return own
        tried.append(own.place.address)
    for url in reversed(journals()):
        if url in tried:
            continue
        try:
            if RunFolder(Place("journal", url), run).exists():
                return Journal(url) if own is None else own.at(url)
        except HandoutError:  # it may be gone, or out of reach
            pass
        tried.append(url)
    more = f" or {len(tried) - TOLD} others" if len(tried) > TOLD else ""
    known = ", ".join(map(repr, tried[:TOLD])) + more if tried else "you have none here"
    raise JournalError(
        f"no journal has run {run!r} ({known}): give journal=, the folder or URL that "
        "its executor was given"
    )


def told_of(journal: Journal, run: str, trust: bool) -> Told:
    """What the client of a run told of it."""
    return RunFolder(journal.place, run).told(trust)


def read_resumption(
    run: str, own: Journal | None, where: Any, graph: Graph | None, trust: bool
) -> Resumption:
    """What is left to do of a run.

    Parameters
    ----------
    run : str
        Its token.
    own : Journal or None
        The executor's.
    where : str or path, optional
        The journal to look into, if it is another one.
    graph : Graph, optional
        What shall run now, in place of what ran; default: the same.
    trust : bool
        Whether files are taken that somebody else wrote.

    Raises
    ------
    JournalError
        If there is no such run, or a file of it is refused; UntrustedError if somebody
        else wrote it.
    """
    if graph is not None and not isinstance(graph, Graph):
        raise GraphError(f"graph must be a Graph, not {type(graph).__name__}")
    journal = find(run, own, where)
    folder = RunFolder(journal.place, run)
    told, past = folder.told(trust), folder.past()
    if graph is None:
        graph, prints = told.graph, Prints.of(told.graph, told.prints.content)
    else:
        prints = Prints.of(graph)
    names = prints.names(graph)
    now = {f.id: m for m, f in enumerate(graph)}
    changed = [
        f.id
        for k, f in enumerate(told.graph)
        if f.id in now and not _is_same(told.prints, k, prints, now[f.id])
    ]
    proof = folder.proof()
    store = folder.store(proof, trust)
    keep = told.keep
    if keep != "all":
        keep = [id for id in keep if id in graph]
    if graph is not told.graph:  # from now on this is what the run is
        folder.tell(told._replace(graph=graph, prints=prints, keep=keep))
    run_ids, load, refused = _left(graph, names, keep, store, folder.results())
    rest = _rest(graph, names, store, past, run_ids, load)
    crashes = {i: past.crashes[names[i]] for i in run_ids if names[i] in past.crashes}
    return Resumption(
        Entry(folder.store(proof), names, journal.all), graph, rest, keep, told.about,
        frozenset(load), frozenset(run_ids), tuple(changed), tuple(refused), crashes,
    )  # fmt: skip


def _is_same(old: Prints, k: int, new: Prints, m: int) -> bool:
    return old.content[k] == new.content[m] and old.code[k] == new.code[m]


def _left(
    graph: Graph, names: Any, keep: Any, store: Store, there: set[str]
) -> tuple[set[Hashable], set[Hashable], list[str]]:
    """What is to be run, what is to be read, and why files were refused."""
    links = graph.links()
    ids = [function.id for function in links.functions]
    n = range(len(ids))
    asked = set(ids if keep == "all" else keep)
    kept = {i for i in n if ids[i] in asked}
    has = {i for i in n if names[ids[i]] in there}
    whole: set[int] = set()
    refused: list[str] = []
    with ThreadPoolExecutor(READERS) as pool:
        while True:
            run, load = remnant(links, kept, has)
            new = sorted(load - whole)
            if not new:
                return {ids[i] for i in run}, {ids[i] for i in load}, refused
            looked = pool.map(
                _why_not, [Durable(store, names[ids[i]], False) for i in new]
            )
            for i, why in zip(new, looked, strict=True):
                if why is None:
                    whole.add(i)
                else:
                    has.discard(i)
                    refused.append(f"{why} (of function {ids[i]!r})")


def _why_not(durable: Durable) -> str | None:
    """Why a result can't be had, if it can't."""
    try:
        durable.check()
    except HandoutError as error:
        return str(error)
    return None


def _rest(
    graph: Graph, names: Any, store: Store, past: Past, run: Iterable[Hashable],
    load: Iterable[Hashable],
) -> Graph:  # fmt: skip
    """The graph, with what reads results in place of the functions that made them."""
    run, load = set(run), set(load)
    out = []
    for function in graph:
        name = names[function.id]
        if function.id in run:
            out.append(replace(function, results=None))
        elif function.id in load:
            cost: dict[str, Any] = dict.fromkeys(_must_have(function), True)
            mb = past.nbytes.get(name, 0) / 1e6
            cost["output_size"] = mb or _declared_mb(function)
            cost["cpu_time"] = CALL + 1e3 * cost["output_size"] / LOADS
            code = Restored(Durable(store, name, False))
            out.append(Function(function.id, [], code, cost=cost, name="restored"))
        else:
            nothing = {"cpu_time": 0, "cpu": 0}
            out.append(Function(function.id, [], skipped, cost=nothing, name="skipped"))
    return Graph(out, graph.name)


def _must_have(function: Function) -> Iterable[str]:
    """What a node must have to hold the result: what it needed to be made."""
    return function.alternatives[0].capabilities


def _declared_mb(function: Function) -> float:
    size = function.alternatives[0].output_size
    if size is None:
        return 0.0
    return float(sum(size.values()) if hasattr(size, "values") else size)


def warn_of(again: Resumption) -> None:
    """Say what is run again that had ended."""
    for why in again.refused:
        warnings.warn(f"It is run again: {why}", stacklevel=2)
    if again.changed:
        some = ", ".join(map(repr, again.changed[:TOLD]))
        more = len(again.changed) - TOLD
        some += f" and {more} more" if more > 0 else ""
        warnings.warn(
            f"Of the run that is resumed, functions changed since, and are run again "
            f"with all that depends on them: {some}",
            stacklevel=2,
        )
