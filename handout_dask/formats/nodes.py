"""NODES files (TOML or JSON) as clusters. Knows the keys; what they mean is Node's."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from handout_dask.errors import CostError
from handout_dask.node import Cluster, Node

NODE_FIELDS = ("name", "capabilities", "speed", "gpu_speed", "price", "watts", "slots")
NODE_KEYS = (*NODE_FIELDS, "kind", "count")
NETWORK_KEYS = ("bandwidth", "latency")
BILLING_KEYS = {"model": "billing", "quantum": "quantum"}
TOP_KEYS = ("node", "network", "billing")


def read_nodes(
    source: str | Path | Mapping[str, Any],
    *,
    billing: str | None = None,
    quantum: float | None = None,
) -> Cluster:
    """The cluster that a NODES file declares.

    Parameters
    ----------
    source : str, Path or mapping
        A TOML or JSON file, or what such a file holds: ``node``, a list of nodes, each
        of which ``count`` repeats; ``network`` with ``bandwidth`` [MB/s] and
        ``latency`` [ms], numbers or square matrices in the order of the nodes after
        ``count``; ``billing`` with ``model`` and ``quantum`` [s].
    billing, quantum : str, float, optional
        Used in place of what the file says.

    Raises
    ------
    CostError
        If the file can't be read, has an unknown key or a value that makes no sense;
        the error names the file and the key.

    Examples
    --------
    >>> cluster = read_nodes({"node": [{"name": "gpu", "count": 2, "speed": 2.0}]})
    >>> [node.name for node in cluster.nodes]
    ['gpu-0', 'gpu-1']
    """
    given = isinstance(source, Mapping)
    where = "nodes" if given else str(source)
    doc: Any = source if given else _load(Path(str(source)))
    try:
        _check_keys(doc, TOP_KEYS, "the file")
        network = doc.get("network", {})
        _check_keys(network, NETWORK_KEYS, "network")
        paid = doc.get("billing", {})
        _check_keys(paid, tuple(BILLING_KEYS), "billing")
        settings: dict[str, Any] = {BILLING_KEYS[key]: paid[key] for key in paid}
        if billing is not None:
            settings["billing"] = billing
        if quantum is not None:
            settings["quantum"] = quantum
        return Cluster(_nodes(doc), **network, **settings)
    except CostError as error:
        raise CostError(f"{where}: {error}") from error


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CostError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise CostError(f"{path}: is not a text: {error}") from error
    is_json = path.suffix == ".json" or text.lstrip().startswith("{")
    try:
        return json.loads(text) if is_json else tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if is_json else "TOML"
        raise CostError(f"{path}: is not {kind}: {error}") from error


def _nodes(doc: Mapping[str, Any]) -> Iterator[Node]:
    rows = doc.get("node")
    if not isinstance(rows, list | tuple) or not rows:
        raise CostError("there is no node; write one [[node]] with a name for each")
    for number, row in enumerate(rows):
        _check_keys(row, NODE_KEYS, f"node number {number}")
        if "name" not in row:
            raise CostError(f"node number {number} has no name")
        fields = dict(row)
        name, count = fields.pop("name"), fields.pop("count", 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise CostError(
                f"node {name!r}: count={count!r} must be an integer above 0"
            )
        if count == 1:
            yield Node(name, **fields)
        else:
            yield from (Node(f"{name}-{k}", **fields) for k in range(count))


def _check_keys(row: Any, known: tuple[str, ...], who: str) -> None:
    if not isinstance(row, Mapping):
        raise CostError(f"{who} must be a table, not {row!r}")
    for key in row:
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            )
            raise CostError(f"{who} has unknown key {key!r}; {hint}")
