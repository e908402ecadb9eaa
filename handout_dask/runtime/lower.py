"""Graph -> HighLevelGraph with annotations: the only file that knows HighLevelGraph.

Keys are numbers, (name-token, i): nothing depends on how a user's ids print, hash or
compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from handout_dask.errors import GraphError
from handout_dask.function import Function
from handout_dask.graph import Graph, Links
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.calling import Call, Variant
from handout_dask.runtime.cutting import Cutter, cut_pays
from handout_dask.runtime.devices import Grant
from handout_dask.runtime.freezing import Freezer
from handout_dask.runtime.process import EXECUTOR
from handout_dask.runtime.runner import call

MOST_LAYERS = 64
CUT = "cut-out"  # no function's label has a dash

Durably = Callable[[Function], Any]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A graph in Dask's terms.

    Attributes
    ----------
    layers : HighLevelGraph
        One layer for each name and cost, or one for all where that makes too many.
    keys : tuple
        The key of each function, in topological order.
    cut_keys : tuple
        The key of each element that is cut out of a result.
    cuts : frozenset of int
        Functions of whose results elements are cut out.
    """

    layers: HighLevelGraph
    keys: tuple[tuple[str, int], ...]
    cut_keys: tuple[tuple[str, int], ...]
    cuts: frozenset[int]


def lowered(graph: Graph, resources: Iterable[str] | None = None) -> Lowered:
    """The graph for any Dask scheduler; made once, as long as nothing changes."""
    if resources is not None:
        _refuse_timeouts(graph)
        limits = dict.fromkeys(resources, float("inf"))
        return lower(graph, graph.token, resources=limits)
    known: tuple[Any, Lowered] | None = graph._lowered
    if known is not None and known[0] is None:  # results, not tasks
        return known[1]
    _refuse_timeouts(graph)
    declared = _declared_resources()
    if known is None or known[0] != declared:  # another cluster than the last time
        known = declared, lower(graph, graph.token, resources=declared)
        graph._lowered = known
    return known[1]


def persisted(dsk: Mapping[Any, Any], graph: Graph, rename: Any = None) -> Graph:
    """The graph with its results (futures or values) in place of its tasks."""
    out = Graph(graph, graph.name)
    out.token = graph.token
    layers = HighLevelGraph.from_collections(graph.token, dict(dsk))
    out._lowered = None, Lowered(layers, lowered(graph).keys, (), frozenset())
    return out


def lower(
    graph: Graph,
    token: str,
    *,
    node: Sequence[int] | None = None,
    option: Sequence[int] | None = None,
    resources: Mapping[str, float] | None = None,
    mobile: bool = False,
    enforce_memory: bool = False,
    own_process: bool = False,
    timeout: float | None = None,
    durable: Durably | None = None,
) -> Lowered:
    """Lower a graph.

    Parameters
    ----------
    graph : Graph
        Every function needs code.
    token : str
        Makes keys unique.
    node : sequence of int, optional
        The planned node of each function: then only elements that cross between nodes
        are cut out by tasks of their own, and what crosses is checked to be picklable.
    option : sequence of int, optional
        Which cost alternative runs; default: the first.
    resources : mapping, optional
        Demands to annotate as Dask worker resources, up to the most that one worker
        declares.
    mobile : bool
        Whether functions may leave their planned nodes: then elements of large results
        are cut out too that don't cross by plan.
    enforce_memory : bool
        Whether functions that declare memory run in processes of their own, held to it;
        those that hold a GPU run on it as ever, and are held to their `gpu_memory`.
    own_process : bool
        Whether all functions do, held to nothing.
    timeout : float, optional
        Seconds for functions without their own; those with any do, too.
    durable : callable, optional
        ``durable(function)``: how its result is kept, None if it is not.

    Raises
    ------
    GraphError
        If a function has no code, or one that can't be pickled.
    """
    links = graph.links()
    functions = links.functions
    keys = tuple((f"{_label(f.name)}-{token}", i) for i, f in enumerate(functions))
    freeze = Freezer()
    layout = _Layout(token, resources or {}, node is not None)
    cutter = Cutter(links, keys, f"{CUT}-{token}", node is not None)
    readers = _readers_elsewhere(links, node) if node is not None else {}
    for i, function in enumerate(functions):
        refs, indexes = [], []
        for a in range(links.ptr[i], links.ptr[i + 1]):
            u, at = links.producer[a], links.index[a]
            stays = node is not None and node[u] == node[i]
            if at is None or (stays and not (mobile and cut_pays(functions[u], at))):
                refs.append(TaskRef(keys[u]))
                frozen = None if at is None else freeze.index(function, at)
                indexes.append(None if at is None else (repr(functions[u].id), frozen))
            else:
                refs.append(TaskRef(cutter.key(u, at, freeze.index(function, at), i)))
                indexes.append(None)
        chosen = option[i] if option is not None else 0
        code = function.variant(chosen)
        cost = function.alternatives[chosen]
        limit, grant = _held_to(cost, enforce_memory)
        spec = Call(
            repr(function.id),
            freeze.code(function, code),
            freeze.literals(function),
            tuple(indexes) if any(x is not None for x in indexes) else None,
            readers.get(i, ""),
            limit,
            timeout if function.timeout is None else float(function.timeout),
            durable=_durable(function, durable),
            grant=grant,
            by_plan=node is not None,
        )
        own = own_process or not (spec.limit is None and spec.timeout is None)
        if node is not None and len(function.alternatives) > 1:
            others = _variants(function, chosen, freeze, enforce_memory, own)
            spec = spec._replace(variants=others)
        layout.add(function, Task(keys[i], call, spec, *refs), own)
    cut_keys = []
    for u, task in cutter.tasks():
        layout.add_cut(functions[u], task)
        cut_keys.append(task.key)
    cuts = frozenset(cutter.producers)
    return Lowered(layout.finish(), keys, tuple(cut_keys), cuts)


def _held_to(cost: Any, enforced: bool) -> tuple[float | None, Grant | None]:
    """The memory [MB] that a function of this cost is held to; what it gets of a GPU.

    With one its arrays stay where they are, in the node's process.
    """
    grant = Grant.of(cost, enforced)
    limit = dict(cost.demand).get("memory") if enforced and grant is None else None
    return limit, grant


def _variants(
    function: Function, chosen: int, freeze: Freezer, enforced: bool, own: bool
) -> tuple[Variant | None, ...]:
    """What differs in the other cost alternatives; None is the chosen one.

    All run in the kind of process that the chosen one does, `own` or the node's, where
    nothing is held to its limit.
    """
    out: list[Variant | None] = []
    for k, cost in enumerate(function.alternatives):
        if k == chosen:
            out.append(None)
            continue
        code = b""  # it tells when it is to run
        with suppress(GraphError):
            code = freeze.code(function, function.variant(k))
        limit, grant = _held_to(cost, enforced)
        out.append(Variant(code, limit if own else None, grant))
    return tuple(out)


def _durable(function: Function, durable: Durably | None) -> Any:
    """How the result of a function is kept, if it is."""
    if durable is not None:
        return durable(function)
    if function.durable:
        raise GraphError(
            f"function {function.id!r} is durable, but there is no journal to keep its "
            "result in: run it by Executor(journal=folder or URL), or leave durable out"
        )
    return None


def _refuse_timeouts(graph: Graph) -> None:
    """A worker without our probe has no processes of functions' own."""
    for function in graph.links().functions:
        if function.timeout is not None:
            raise GraphError(
                f"function {function.id!r} has timeout={function.timeout!r}, which "
                "only an Executor can enforce; run it by one, or leave the timeout out"
            )


def _label(name: str) -> str:
    """The name as a part of keys: short, without what Dask would take for structure."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:48].strip("_") or "function"


def _declared_resources() -> dict[str, float]:
    """The most of each resource that a worker of the current Dask client declares."""
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return {}
    if client.asynchronous:  # it can't be asked from here
        return {}
    most: dict[str, float] = {}
    for info in client.scheduler_info()["workers"].values():
        for name, amount in info.get("resources", {}).items():
            most[name] = max(amount, most.get(name, 0.0))
    return most


def _readers_elsewhere(links: Links, node: Sequence[int]) -> dict[int, str]:
    """For each function whose result crosses, who needs it (one of them), as text."""
    out: dict[int, str] = {}
    for i, function in enumerate(links.functions):
        for a in range(links.ptr[i], links.ptr[i + 1]):
            u = links.producer[a]
            if node[u] != node[i] and links.index[a] is None and u not in out:
                out[u] = f"function {function.id!r}"
    return out


class _Table:
    """An annotation that differs from key to key; Dask calls it for each."""

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values

    def __call__(self, key: Any) -> Any:
        return self.values.get(key)


class _Layout:
    """Sorts tasks into layers of equal annotations."""

    def __init__(
        self, token: str, resources: Mapping[str, float], planned: bool
    ) -> None:
        self._token, self._resources, self._planned = token, resources, planned
        self._numbers: dict[Any, int] = {}
        self._tasks: list[dict[Any, Task]] = []
        self._names: list[str] = []
        self._annotations: list[dict[str, Any]] = []
        self._layer_of: dict[Any, int] = {}

    def add(self, function: Function, task: Task, own: bool = False) -> None:
        retry = None if self._planned else function.retry  # by plan they are ours
        which = (function.name, *map(id, function.alternatives), retry, own)
        number = self._number(which, function.name)
        if not self._annotations[number]:
            self._annotations[number] = self._annotate(function, retry)
            if own:
                self._annotations[number]["executor"] = EXECUTOR
        self._put(number, task)

    def add_cut(self, producer: Function, task: Task) -> None:
        which = (CUT, producer.name, *map(id, producer.alternatives), producer.retry)
        self._put(self._number(which, f"{CUT}_{producer.name}"), task)

    def _number(self, which: Any, name: str) -> int:
        number = self._numbers.setdefault(which, len(self._tasks))
        if number == len(self._tasks):
            self._tasks.append({})
            self._annotations.append({})
            self._names.append(f"{_label(name)}-{self._token}-{number}")
        return number

    def _put(self, number: int, task: Task) -> None:
        self._tasks[number][task.key] = task
        self._layer_of[task.key] = number

    def _annotate(
        self, function: Function, retry: RetryPolicy | None
    ) -> dict[str, Any]:
        costs = [_plain(cost) for cost in function.alternatives]
        cost = costs[0] if len(costs) == 1 else costs
        out: dict[str, Any] = {"handout": {"cost": cost, "name": function.name}}
        demand = function.alternatives[0].demand
        have = self._resources
        enforced = {k: need for k, need in demand if 0 < need <= have.get(k, 0)}
        if enforced:
            out["resources"] = enforced
        if retry is not None and retry.attempts > 1:
            out["retries"] = retry.attempts - 1
        return out

    def finish(self) -> HighLevelGraph:
        depends = self._dependencies()
        if len(self._tasks) <= MOST_LAYERS and _is_acyclic(depends):
            layers = {
                name: MaterializedLayer(tasks, annotations=notes or None)
                for name, tasks, notes in zip(
                    self._names, self._tasks, self._annotations, strict=True
                )
            }
            names = {
                self._names[k]: {self._names[d] for d in ds}
                for k, ds in enumerate(depends)
            }
            return HighLevelGraph(layers, names)
        return self._one_layer()

    def _dependencies(self) -> list[set[int]]:
        out: list[set[int]] = [set() for _ in self._tasks]
        for number, tasks in enumerate(self._tasks):
            for task in tasks.values():
                out[number].update(self._layer_of[key] for key in task.dependencies)
            out[number].discard(number)
        return out

    def _one_layer(self) -> HighLevelGraph:
        tables: dict[str, dict[Any, Any]] = {}
        for tasks, notes in zip(self._tasks, self._annotations, strict=True):
            for what, value in notes.items():
                tables.setdefault(what, {}).update(dict.fromkeys(tasks, value))
        tasks = {key: task for some in self._tasks for key, task in some.items()}
        notes = {what: _Table(values) for what, values in tables.items()}
        layer = MaterializedLayer(tasks, annotations=notes or None)
        name = f"graph-{self._token}"
        return HighLevelGraph({name: layer}, {name: set()})


def _plain(cost: Mapping[str, Any]) -> dict[str, Any]:
    """A cost without objects of the user's, which a scheduler might not know."""
    out = dict(cost)
    if isinstance(out.get("output_size"), Mapping):
        sizes = out["output_size"].items()
        out["output_size"] = {
            k if type(k) in (str, bytes, int, float, bool) else repr(k): mb
            for k, mb in sizes
        }
    return out


def _is_acyclic(depends: list[set[int]]) -> bool:
    left = {k: set(ds) for k, ds in enumerate(depends)}
    while left:
        free = [k for k, ds in left.items() if not ds]
        if not free:
            return False
        for k in free:
            del left[k]
        for ds in left.values():
            ds.difference_update(free)
    return True
