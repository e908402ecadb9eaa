"""A Picture as columns to be drawn: lanes, bars, shares of time. Pure numpy; no Bokeh.

Text that comes back is as it is in the Picture: bounded, one line, not escaped.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from handout_dask.events import LOST, OUTCOMES
from handout_dask.picture import STATES, Picture

BESIDE = 0.005  # s by which what ran one after another in a slot may seem to overlap
LATE, LEAST_LATE = 0.05, 0.05  # share of the planned end, s; ends later than that
MOST_LANES = 64  # of one node
LOST_AT = OUTCOMES.index(LOST)
ON_TIME, TOO_LATE, FAILED, LOST_BAR, RUNNING = KINDS = range(5)  # of bars


def lanes_of(
    node: np.ndarray, start: np.ndarray, end: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """``(lane, count)``: where each bar of a node is, so that none overlap; how many.

    Parameters
    ----------
    node, start, end : (n,) int, (n,) float, (n,) float
        Of each bar.
    m : int
        How many nodes there are.

    Examples
    --------
    >>> start = np.array([0.0, 0.0, 1.0, 5.0])
    >>> lane, count = lanes_of(np.array([0, 0, 0, 1]), start, start + 1.0, 2)
    >>> lane.tolist(), count.tolist()
    ([0, 1, 0, 0], [2, 1])
    """
    lane = np.zeros(len(node), dtype=np.int64)
    count = np.zeros(m, dtype=np.int64)
    free: list[list[int]] = [[] for _ in range(m)]  # lanes by number
    busy: list[list[tuple[float, int]]] = [[] for _ in range(m)]
    for i in np.lexsort((end, start)).tolist():
        j, begin = int(node[i]), float(start[i]) + 1e-9
        while busy[j] and busy[j][0][0] <= begin:
            heapq.heappush(free[j], heapq.heappop(busy[j])[1])
        if not free[j]:
            heapq.heappush(free[j], int(count[j]))
            count[j] += 1
        lane[i] = heapq.heappop(free[j])
        heapq.heappush(busy[j], (float(end[i]), int(lane[i])))
    return lane, count


class Slots:
    """Gives lanes of one node to what runs on it, as it is seen to begin and to end.

    Parameters
    ----------
    wide : int
        How many lanes there are. Where more runs at once some of it shares one.

    Examples
    --------
    >>> slots = Slots(2)
    >>> slots.run([(7, 0.0), (8, 0.0)])
    [0, 1]
    >>> slots.end(8, 0.0, 1.0), slots.run([(7, 0.0), (9, 1.0)]), slots.end(7, 0.0, 3.0)
    (1, [0, 1], 0)
    """

    def __init__(self, wide: int) -> None:
        self._ends = [-np.inf] * wide  # of what has ended
        self._given: dict[int, int] = {}  # lanes of what runs, or lately ran

    def run(self, functions: list[tuple[int, float]]) -> list[int]:
        """The lanes of all that runs now, which began then."""
        given = {i: self._given[i] for i, _ in functions if i in self._given}
        for i, start in functions:
            if i not in given:
                given[i] = self._find(start, {*given.values()})
        self._given |= given
        return [given[i] for i, _ in functions]

    def end(self, function: int, start: float, end: float) -> int:
        """The lane of what has run; told in the order in which things ended."""
        lane = self._given.pop(function, None)
        if lane is None or self._ends[lane] > start + BESIDE:
            lane = self._find(start, set())
        self._ends[lane] = max(self._ends[lane], end)
        return lane

    def _find(self, start: float, taken: set[int]) -> int:
        """The lane that was free for the shortest time; else that which is soonest."""
        lanes = [x for x in range(len(self._ends)) if x not in taken]
        free = [x for x in lanes if self._ends[x] <= start + BESIDE]
        if free:
            return max(free, key=lambda x: (self._ends[x], -x))
        return min(lanes or range(len(self._ends)), key=self._ends.__getitem__)


def blocks(count: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """(m + 1,) where the lanes of each node begin; the last is how many there are.

    As many as are needed or, where that is known, as there are slots; but one where
    nothing is planned.
    """
    known = np.where(count > 0, np.nan_to_num(slots, nan=1.0, posinf=1.0), 1.0)
    wide = np.clip(np.maximum(count, known), 1, MOST_LANES).astype(np.int64)
    return np.concatenate([[0], np.cumsum(wide)])


def kinds_of(picture: Picture, since: int) -> np.ndarray:
    """(k,) one of `KINDS` for each attempt from number `since` on."""
    spans = picture.spans
    function, outcome = spans.function[since:], spans.outcome[since:]
    planned = picture.end[function]
    late = spans.end[since:] > planned + np.maximum(LATE * planned, LEAST_LATE)
    kind = np.where(late, TOO_LATE, ON_TIME)
    kind[outcome != 0] = FAILED
    kind[outcome == LOST_AT] = LOST_BAR
    return kind


def about_span(picture: Picture, k: int) -> str:
    """What there is to say of attempt number k."""
    spans = picture.spans
    i = int(spans.function[k])
    late = float(spans.end[k]) - float(picture.end[i])
    when = "as planned" if abs(late) < 5e-4 else f"{abs(late):.3g} s "
    if abs(late) >= 5e-4:
        when += "later than planned" if late > 0 else "earlier than planned"
    outcome, attempt = OUTCOMES[int(spans.outcome[k])], int(spans.attempt[k])
    more = f", attempt {attempt}" if attempt > 1 else ""
    if k in spans.errors:
        more += f": {spans.errors[k]}"
    return f"{outcome}{more}" if spans.outcome[k] else f"{outcome} {when}{more}"


def busy(
    node: np.ndarray, start: np.ndarray, end: np.ndarray, edges: np.ndarray, m: int
) -> np.ndarray:
    """(m, b) [s]: for how long bars of each node are there between b + 1 times.

    Examples
    --------
    >>> edges = np.array([0.0, 1.0, 2.0])
    >>> busy(np.array([0, 0]), np.zeros(2), np.array([0.5, 2.0]), edges, 1).tolist()
    [[1.5, 1.0]]
    """
    out = np.zeros((m, len(edges) - 1))
    for j in np.unique(node).tolist():
        mine = node == j
        began, ended = _passed(start[mine], edges), _passed(end[mine], edges)
        out[j] = np.diff(began - ended)
    return out


def _passed(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Of each edge, the sum of how long ago those times are that are before it."""
    times = np.sort(times)
    before = np.searchsorted(times, edges)
    total = np.concatenate([[0.0], np.cumsum(times)])
    out: np.ndarray = before * edges - total[before]
    return out


def crossings(picture: Picture, most: int) -> np.ndarray:
    """Numbers of the edges that cross between nodes by plan, if there are not too many;
    else of those on the critical path; at most so many.
    """
    away = picture.node[picture.source] != picture.node[picture.target]
    found = np.flatnonzero(away)
    if len(found) > most:
        critical = picture.critical
        found = found[critical[picture.source[found]] & critical[picture.target[found]]]
    return found[:most]


def headline(picture: Picture) -> str:
    """How a run stands, in one line."""
    counts, n = picture.counts, len(picture)
    parts = [f"{picture.status}", f"{counts['done']:,} of {n:,} functions done"]
    parts += [
        f"{counts[name]:,} {word}"
        for name, word in (
            ("running", "running"), ("again", "to be tried again"),
            ("failed", "failed"), ("blocked", "blocked"), ("cancelled", "cancelled"),
        )
        if counts[name]
    ]  # fmt: skip
    if picture.retries:
        parts.append(plural(picture.retries, "retry", "retries"))
    now = f"{seconds(picture.now)} since it began"
    if picture.is_over:
        now = f"took {seconds(picture.now)}, planned {seconds(picture.makespan)}"
    else:
        now += f", planned {seconds(picture.makespan)}"
        now += f", expected {seconds(picture.expected)}"
    if picture.status in ("done", "running", "pending"):  # of others it says nothing
        now += f" ({lateness(picture)})"
    parts.append(now)
    if picture.money or picture.planned_money:
        planned = money_of(picture.planned_money)
        parts.append(f"money {money_of(picture.money)}, planned {planned}")
    return "  ·  ".join(parts)


def lateness(picture: Picture) -> str:
    """How late it is, or is expected to be."""
    if picture.makespan <= 0 or abs(picture.late) < max(0.01 * picture.makespan, 0.01):
        return "as planned"
    word = "late" if picture.late > 0 else "early"
    return f"{seconds(abs(picture.late))} {word}"


def seconds(value: float) -> str:
    """A time for people.

    Examples
    --------
    >>> seconds(0.0123), seconds(12.34), seconds(754.0), seconds(8040.0)
    ('0.012 s', '12.3 s', '12 min 34 s', '2 h 14 min')
    """
    if value < 9.95:
        return f"{value:.2g} s" if value < 0.995 else f"{value:.1f} s"
    if value < 99.5:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"


def money_of(value: float) -> str:
    """An amount of money, in the unit of the user's prices.

    Examples
    --------
    >>> money_of(0.0), money_of(0.00002468), money_of(1.2345), money_of(123456.789)
    ('0', '0.00002468', '1.234', '123,456.79')
    """
    if abs(value) >= 1000:
        return f"{value:,.2f}"
    return np.format_float_positional(
        value, precision=4, unique=False, fractional=False, trim="-"
    )


def plural(count: int, one: str, more: str) -> str:
    """A number of things."""
    return f"{count:,} {one if count == 1 else more}"


def measured(picture: Picture, most: int) -> dict[str, Sequence[Any]]:
    """What functions of one name declare and what was measured: columns of a table.

    The names that took most time first, at most so many. Times [s] and sizes [MB] are
    means, peaks [MB] the largest; nan is not known.
    """
    spans, groups = picture.spans, len(picture.groups)
    done = spans.outcome == 0
    function = spans.function[done]
    which = picture.group[function]
    took = spans.end[done] - spans.start[done]
    # Of functions, not of attempts: some run again because their result was lost.
    ready = picture.group[picture.state == STATES.index("done")]
    total = np.bincount(picture.group, minlength=groups)
    planned = _mean(picture.group, picture.end - picture.start, groups)
    spent = np.bincount(which, took, minlength=groups)
    order = np.lexsort((-total, -spent))[:most]
    columns = {
        "done": np.bincount(ready, minlength=groups),
        "total": total,
        "planned": planned,
        "took": _mean(which, took, groups),
        "cpu": _mean(which, spans.cpu_seconds[done], groups),
        "declared": _most(picture.group, picture.declared_mb, groups),
        "peak": _most(which, spans.peak_mb[done], groups),
        "size": _mean(picture.group, picture.output_mb, groups),
        "result": _mean(which, spans.nbytes[done] / 1e6, groups),
    }
    out: dict[str, Sequence[Any]] = {
        "name": [picture.groups[g] for g in order.tolist()]
    }
    return out | {name: values[order].tolist() for name, values in columns.items()}


def _mean(group: np.ndarray, value: np.ndarray, groups: int) -> np.ndarray:
    known = np.isfinite(value)
    count = np.bincount(group[known], minlength=groups)
    total = np.bincount(group[known], value[known], minlength=groups)
    with np.errstate(invalid="ignore"):
        out: np.ndarray = total / count
    return out


def _most(group: np.ndarray, value: np.ndarray, groups: int) -> np.ndarray:
    out = np.full(groups, -np.inf)
    known = np.isfinite(value)
    np.maximum.at(out, group[known], value[known])
    out[out == -np.inf] = np.nan
    return out


def by_vertex(vertex: np.ndarray, state: np.ndarray, k: int) -> np.ndarray:
    """(k, states) int: how many functions of each vertex are in which state."""
    states = len(STATES)
    counts = np.bincount(vertex * states + state, minlength=k * states)
    return counts.reshape(k, states)
