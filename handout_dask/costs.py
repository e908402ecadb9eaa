"""Split a flat cost map into estimates, demand and capabilities: here and nowhere else.

Knows units and keys; knows neither functions (only the name to put into an error) nor
nodes' free room.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from handout_dask.errors import CostError

_SIZE = {"B": 1e-6, "kB": 1e-3, "KB": 1e-3, "MB": 1.0, "GB": 1e3, "TB": 1e6}
_SIZE |= {f"{p}iB": 2 ** (10 * k) / 1e6 for k, p in enumerate("KMGT", start=1)}
_TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6}
_RATE = {f"{unit}/s": factor for unit, factor in _SIZE.items()}
_POWER = {"mW": 1e-3, "W": 1.0, "kW": 1e3}

ESTIMATES = ("cpu_time", "gpu_time", "output_size")
UNITS: dict[str, dict[str, float]] = {
    "cpu_time": _TIME, "gpu_time": _TIME, "output_size": _SIZE,
    "memory": _SIZE, "gpu_memory": _SIZE,
    "disk_io": _RATE, "network_io": _RATE, "power": _POWER,
    "cpu": {}, "gpus": {},
}  # fmt: skip
UNIT_NAMES = {"memory": "MB", "gpu_memory": "MB", "disk_io": "MB/s"}
UNIT_NAMES |= {"network_io": "MB/s", "power": "W"}
CUDA = "has_cuda"

_NUMBER = re.compile(
    r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z/]*)\s*"
)


def parse_quantity(owner: str, key: str, value: Any) -> float:
    """The value in the key's unit of the spec; a CostError that names owner and key.

    Parameters
    ----------
    owner : str
        Who has the value, as it shall read in an error: ``"function 'a'"``.
    key : str
        Which value it is: ``memory``, ``cpu_time``, or one of the user's own.
    value : number or str
        A finite number that is not negative, or a text with a unit: ``"4 GiB"``.

    Returns
    -------
    float
        Milliseconds for times, MB (10^6 bytes) for sizes, MB/s for rates, W for power.

    Raises
    ------
    CostError
        If the value is negative, NaN, infinite, of a wrong type or unit.
    """
    number: float
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        units = UNITS.get(key.partition("[")[0], {})  # of output_size[0] too
        if match is None:
            raise CostError(f"{owner}: {key}={value!r} is not a number with a unit")
        unit = match[2]
        if unit and unit not in units:
            known = ", ".join(units) or "none: give a plain number"
            raise CostError(
                f"{owner}: {key}={value!r} has unknown unit {unit!r}; known: {known}"
            )
        number = float(match[1]) * units.get(unit, 1.0)
    elif as_bool(value) is not None:
        raise CostError(f"{owner}: {key}={value!r} must be a number, not a bool")
    elif isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:  # an int beyond 1e308
            number = math.inf
    else:
        raise CostError(
            f"{owner}: {key}={value!r} must be a number or a text such as '4 GiB', "
            f"not {type(value).__name__}"
        )
    if not math.isfinite(number) or number < 0:
        raise CostError(f"{owner}: {key}={value!r} must be finite and not negative")
    return number


def as_bool(value: Any) -> bool | None:
    """The bool that a Python or numpy bool is; None for anything else."""
    is_bool = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    return bool(value) if is_bool else None


_FIELDS = ("cpu_time", "gpu_time", "output_size", "demand", "capabilities", "code")


class Cost(Mapping[str, Any]):
    """What one function costs: a parsed, immutable cost map.

    Parameters
    ----------
    entries : mapping, optional
        The flat map, keys and units as in the table of the documentation: ``cpu_time``
        and ``gpu_time`` [ms], ``output_size`` [MB], ``memory`` and ``gpu_memory``
        [MB], ``cpu`` [cores], ``gpus`` [devices], ``disk_io`` and ``network_io``
        [MB/s], ``power`` [W], ``has_cuda_requirement`` (bool); any other key with a
        number is a consumable of the user's own, with a bool a capability. ``code`` is
        the variant of the function's code that has this cost. ``gpu_time`` is without
        the copies of what comes from the host's memory, or goes there.
    **more
        Further entries.

    Attributes
    ----------
    cpu_time, gpu_time : float or None
        Estimates [ms]; None is unknown.
    output_size : float, dict or None
        MB of the result, or MB for each index of it; None is unknown.
    demand : tuple of (str, float)
        Held while running, sorted by name; zeros left out, except an explicit cpu.
    capabilities : tuple of str
        What the node must have, sorted.
    code : callable or None
        The variant's own code.

    Raises
    ------
    CostError
        If a value makes no sense.

    Notes
    -----
    ``output_size`` may be a mapping from index to MB for a producer whose elements
    differ in size; an edge ``(producer, index)`` then carries that element's MB.

    Examples
    --------
    >>> cost = Cost(memory="1 GB", cpu_time=20, camera=1)
    >>> cost["memory"], cost.cpu_time, cost.demand
    (1000.0, 20.0, (('camera', 1.0), ('memory', 1000.0)))
    """

    __slots__ = _FIELDS

    cpu_time: float | None
    gpu_time: float | None
    output_size: float | Mapping[Any, float] | None
    demand: tuple[tuple[str, float], ...]
    capabilities: tuple[str, ...]
    code: Callable[..., Any] | None

    def __new__(cls, entries: Mapping[str, Any] | None = None, /, **more: Any) -> Cost:
        given = NO_COST if entries is None else parse_cost(entries, "cost")
        if not more:
            return given
        return parse_cost({"code": given.code, **(entries or {}), **more}, "cost")

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for costs that need the same of a node."""
        return (self.demand, self.capabilities, self.gpu_time is not None)

    def _flat(self) -> dict[str, Any]:
        estimates = {k: getattr(self, k) for k in ESTIMATES}
        flat = {k: v for k, v in estimates.items() if v is not None}
        flat.update(self.demand)
        for name in self.capabilities:
            flat["has_cuda_requirement" if name == CUDA else name] = True
        return flat

    def __getitem__(self, key: str) -> Any:
        return self._flat()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flat())

    def __len__(self) -> int:
        return len(self._flat())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Cost):  # as maps, {"x": 1} and {"x": True} are equal
            return self._fields() == other._fields()
        return dict(self) == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Cost({self._flat()!r})"

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)

    def __reduce__(self) -> tuple[Any, ...]:
        return _build, self._fields()


def _build(*values: Any) -> Cost:
    cost: Cost = object.__new__(Cost)
    for name, value in zip(_FIELDS, values, strict=True):
        object.__setattr__(cost, name, value)
    return cost


def parse_cost(entries: Any, owner: str) -> Cost:
    """The Cost of a flat map; an error names the owner and the key."""
    if isinstance(entries, Cost):
        return entries
    if not isinstance(entries, Mapping):
        raise CostError(
            f"{owner}: cost must be a mapping such as {{'memory': 100}}, "
            f"not {entries!r}"
        )
    if (
        entries.get("code") is not None
    ):  # may compare equal to other code, and would be kept alive
        return _parse(entries, owner)
    try:
        # The types are part of the key, for 1 == 1.0 == True.
        return _parse_cached(tuple((k, type(v), v) for k, v in entries.items()))
    except (TypeError, CostError):  # unhashable value, or an error that wants its owner
        return _parse(entries, owner)


@lru_cache(maxsize=4096)
def _parse_cached(items: tuple[tuple[str, type, Any], ...]) -> Cost:
    return _parse({k: v for k, _, v in items}, "cost")


def _parse(entries: Mapping[str, Any], owner: str) -> Cost:
    estimates: dict[str, Any] = dict.fromkeys(ESTIMATES)
    demand: dict[str, float] = {}
    capabilities: set[str] = set()
    code = None
    for key, value in entries.items():
        if not isinstance(key, str) or not key:
            raise CostError(f"{owner}: cost key {key!r} must be a text")
        if key == "code":
            if value is not None and not callable(value):
                raise CostError(f"{owner}: code={value!r} is not callable")
            code = value
        elif key == "slots":
            raise CostError(f"{owner}: 'slots' is counted by the library; use 'cpu'")
        elif key == "has_cuda_requirement":
            wanted = as_bool(value)
            if wanted is None:
                raise CostError(f"{owner}: {key}={value!r} must be True or False")
            if wanted:
                capabilities.add(CUDA)
        elif value is None:
            continue
        elif key in ESTIMATES:
            if key == "output_size" and isinstance(value, Mapping):
                sizes = value.items()
                value = {k: parse_quantity(owner, f"{key}[{k!r}]", v) for k, v in sizes}
                estimates[key] = value
            else:
                estimates[key] = parse_quantity(owner, key, value)
        elif key not in UNITS and (wanted := as_bool(value)) is not None:
            if wanted:
                capabilities.add(key)
        else:
            demand[key] = parse_quantity(owner, key, value)
    timed = estimates["gpu_time"] is not None
    if CUDA in capabilities or timed or demand.get("gpu_memory"):
        demand.setdefault("gpus", 1.0)
        if not demand["gpus"]:
            raise CostError(f"{owner}: gpus=0 contradicts its other GPU entries")
    if demand.get("gpus", 0) > 1 and demand["gpus"] % 1:
        raise CostError(f"{owner}: gpus={demand['gpus']} must be whole, or below 1")
    kept = ((k, v) for k, v in demand.items() if v or k == "cpu")
    return _build(
        *(estimates[k] for k in ESTIMATES),
        tuple(sorted(kept)),
        tuple(sorted(capabilities)),
        code,
    )


NO_COST = _parse({}, "cost")
