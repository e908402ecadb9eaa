"""Simulated annealing from several list schedules: the loop around the kernels.

Knows a Problem, first Plans and an Aim; what the aim is for is the allocators' affair.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from handout_dask.allocators import contention, decoder, engine, moves, oneport
from handout_dask.allocators.compiling import bound, compile_kernel
from handout_dask.allocators.decoder import Aim, Schedule
from handout_dask.allocators.effort import Meter
from handout_dask.allocators.instance import make_instance, schedule_of
from handout_dask.allocators.moves import PICKED, Search
from handout_dask.begun import Begun
from handout_dask.plans import Plan
from handout_dask.problem import Problem

SOWING = 0.2  # share of the search that makes first plans
FREE = 1e-100  # a price of no more is none
POOL = 8  # of these are kept and annealed in turn
CYCLE = 700  # moves for each function, in one annealing
HOT, COLD = 0.1, 0.0003  # share of the value that a move may worsen it by, at most
HOT_EACH, COLD_EACH = 5.0, 0.03  # the same, divided by the number of functions
FULL_HEAT = 1500  # moves for each function that begin hot; fewer begin colder
WARMTH = 0.7, 0.35, 0.2  # of annealings in turn, as graphs differ in what helps
CHUNKS = 100  # looks at the clock
KINDS_OF_RANK = ("mean", True), ("best", True), ("mean", False)  # by, transfer

Kernels = tuple[Callable[..., Any], Callable[..., Any]]  # decode, anneal
INNER = (
    decoder.value_of, decoder.latest_end, decoder.earliest, decoder.arrival,
    decoder.occupy, decoder.choose, decoder.tighten, decoder.assess,
)  # fmt: skip
OUTER = (
    decoder.decode, moves.draw, moves.draw_excess, moves.below, moves.sort_by_start,
    moves.trace, moves.pick, moves.put, moves.neighbour, moves.pick_several,
    moves.move_one, moves.swap, moves.shift,
)  # fmt: skip


def is_loaded() -> bool:
    """Whether compiled kernels are at hand."""
    return "numba" in sys.modules


@lru_cache(maxsize=4)
def kernels(network: str, compiled: bool) -> Kernels:
    """``(decode, anneal)`` for a network; the first compilation takes some seconds."""
    ports = {"decode": contention.decode_ports, "EXACT": False}
    names: dict[str, Any] = ports if network == "oneport" else {}
    if not compiled:
        decode = names.get("decode", decoder.decode)
        return decode, np.errstate(invalid="ignore")(bound(moves.anneal, **names))
    if not names:
        return (
            compile_kernel(decoder.decode, INNER),
            compile_kernel(moves.anneal, (*INNER, *OUTER)),
        )
    helpers = (*INNER, decoder.decode, *oneport.HELPERS, oneport.play)
    return (
        compile_kernel(contention.decode_ports, helpers),
        compile_kernel(
            moves.anneal, (*helpers, *OUTER, contention.decode_ports), **names
        ),
    )


def new_search(s: Schedule, taste: np.ndarray, random: np.ndarray) -> Search:
    """The state of a search that begins with a schedule."""
    total = len(s.order)
    return Search(
        *_copied(s), *_copied(s), *_copied(s), np.zeros(total, dtype=np.int64),
        np.zeros(total, dtype=PICKED), taste, np.zeros(2), random,
    )  # fmt: skip


class Annealer:
    """One search: its instance, its aim, its random numbers and its best schedules."""

    def __init__(
        self, problem: Problem, first: Plan, aim: Aim, seed: int, *,
        begun: Begun | None = None, now: float = 0.0,
        home: np.ndarray | None = None, price: np.ndarray | None = None,
        path: str | None = None,
    ) -> None:  # fmt: skip
        self.problem, self.aim = problem, aim
        _, self.anneal = kernels(problem.network, path != "numpy")
        self.path = path or "compiled"
        self.p = p = make_instance(
            problem, begun, now, price, aim.held, self.path, home
        )
        start = schedule_of(first, begun)
        self.ranks = [
            engine.upward_rank(problem, by, transfer, self.path)
            for by, transfer in KINDS_OF_RANK
        ]
        self.ranks.append(np.arange(len(first.node), 0, -1.0))
        f = p.functions[:-1]
        self.free = (f["group"] < 0) & (f["pinned"] == 0)
        self.taste = np.zeros(4)
        pace = np.where(np.isfinite(p.span), p.span, 0.0).sum(axis=0)
        self.by_speed = np.argsort(pace[p.nodes["kind"]], kind="stable")
        price_of = p.nodes["price"][p.nodes["price"] > FREE]
        self.worth = 1.0 / price_of.mean() if len(price_of) else 0.0  # s per money
        mb = p.preds["mb"].sum()
        self.haste = float(p.span[np.isfinite(p.span)].sum() / mb) if mb else 0.0
        self.random = np.random.default_rng(seed)
        self.state = np.array([1 + self.random.integers(2**31 - 2)], dtype=np.int64)
        self.x = new_search(start, self.taste, self.state)
        self.pool: list[tuple[float, bool, Schedule]] = []
        self.best, self.best_value = start, math.inf
        self.keep(start)
        if self.x.order.size > p.fixed:
            self.anneal(p, aim, self.x, 0, 0.0)  # so that it is loaded

    def keep(self, s: Schedule) -> bool:
        """Time a schedule, keep it if it is among the best; whether it is valid."""
        p, aim = self.p, self.aim
        x = self.x._replace(order=s.order, rows=s.rows)
        value, makespan, money = self.anneal(p, aim, x, -1, 0.0)
        if value == np.inf:
            return False
        own = s.order[p.fixed :]
        own[:] = own[np.argsort(s.rows["start"][own], kind="stable")]
        valid = makespan <= aim.deadline and money <= aim.budget
        if all(value != known for known, *_ in self.pool):  # likely another one
            self.pool.append((value, valid, s))
            self.pool.sort(key=lambda entry: entry[0])
            del self.pool[POOL:]
        if valid and value < self.best_value:
            self.best, self.best_value = s, value
        return bool(valid)

    def sow(self, number: int) -> None:
        """Make a first schedule: in some order, each to where it ends first.

        By number: in the order of upward ranks, with and without transfers, and of the
        graph; then these on fewer and fewer nodes, the fastest; then with ranks that
        are randomly off.
        """
        m = len(self.p.nodes)
        key = -self.ranks[number % len(self.ranks)]
        fewer = number // len(self.ranks)
        if fewer >= m:
            noise = self.random.uniform(0.9, 1.1, len(key))
            ranked = KINDS_OF_RANK[number % len(KINDS_OF_RANK)]
            key = -engine.upward_rank(self.problem, *ranked, self.path, noise)
        self._flavour(random=number > 0)
        self._list(key, self.by_speed[m - fewer % m :])

    def trim(self) -> None:
        """Make first schedules on as few of the cheapest nodes as the limits allow.

        By bisection: more nodes are faster, fewer are cheaper. Functions that only
        others can run stay there.
        """
        most = 1e30  # s, instead of what can run nothing
        mean = np.ma.masked_invalid(self.p.span).mean(axis=0).filled(most)
        money = mean[self.p.nodes["kind"]] * self.p.nodes["price"]
        by_money = np.lexsort((mean[self.p.nodes["kind"]], money))
        low, high = 1, len(by_money)  # how many may do
        more_if_valid = self.aim.deadline == np.inf  # then the budget is the limit
        while low < high:
            count = (low + high) // 2
            self.taste[:] = 0.0
            valid = self._list(-self.ranks[0], by_money[count:])
            if valid == more_if_valid:
                low = count + 1
            else:
                high = count

    def _list(self, key: np.ndarray, shut: np.ndarray) -> bool:
        """Keep the list schedule of an order, without some nodes; is it valid?"""
        p = self.p
        s = _copied(self.pool[0][2])
        own = s.order[p.fixed :]
        order = engine.topological(self.problem, key, self.path)
        own[:] = order[np.isin(order, own)] if p.fixed else order
        p.nodes["shut"][shut] = 1
        p.functions["free"][:-1] = self.free
        valid = self.keep(s)
        p.nodes["shut"] = p.functions["free"] = 0
        return valid

    def _flavour(self, random: bool) -> None:
        """Draw a taste for cheap and near nodes, as far as the aim asks for it."""
        aim = self.aim
        self.taste[:] = 0.0
        if random and (aim.money > 0.0 or aim.budget < np.inf):
            self.taste[0] = self.worth * self.random.choice((0.0, 0.3, 1.0, 3.0, 30.0))
        if random and aim.money > 0.0 and self.random.random() < 0.5:
            self.taste[0] = 30.0 * self.worth
            if aim.deadline < np.inf:
                self.taste[2:] = self.random.uniform(1.0, 2.5), aim.deadline
        if random and aim.moved > 0.0:
            self.taste[1] = self.haste * self.random.choice((0.0, 0.3, 1.0, 3.0))

    def cycle(
        self, number: int, meter: Meter, until: float, hot: float, cold: float
    ) -> None:
        """Anneal a schedule of the pool, from hot to cold."""
        x = self.x
        value, valid, s = self.pool[number % len(self.pool)]
        x.order[:] = x.trial_order[:] = x.best_order[:] = s.order
        x.rows[:] = x.trial_rows[:] = x.best_rows[:] = s.rows
        self.p.functions["place"][s.order] = np.arange(len(s.order))
        x.values[:] = value, value if valid else np.inf
        first, begin = x.values[1], meter.passed()
        scale = value if self.best_value == np.inf else self.best_value
        while (passed := meter.passed()) < until:
            cooled = (passed - begin) / (until - begin)
            self._flavour(random=True)
            heat = scale * hot * (cold / hot) ** cooled
            self.anneal(self.p, self.aim, x, self.chunk, heat)
            meter.done += self.chunk
            if until == math.inf:  # only to measure how fast it is
                break
        if x.values[1] < first:
            self.keep(Schedule(x.best_order.copy(), x.best_rows.copy()))

    def run(self, meter: Meter) -> None:
        """Sow, then anneal until the meter says that it is enough."""
        n, m, number = len(self.best.order) - self.p.fixed, len(self.p.nodes), 0
        if n == 0:
            return
        hot, cold = min(HOT, HOT_EACH / n), min(COLD, COLD_EACH / n)
        if self.aim.deadline < np.inf or self.aim.budget < np.inf:
            self.trim()
        while meter.passed() < SOWING:
            self.sow(number)
            number += 1
            meter.done += m
        self.chunk = max(20, 20_000 // n) if self.path == "compiled" else 5
        begin, rate, number = meter.passed(), float(meter.moves), 0
        if not rate:
            self.cycle(0, meter, math.inf, cold, cold)
            rate = self.chunk / (meter.passed() - begin)
        self.chunk = max(5, int(rate / CHUNKS))
        while (passed := meter.passed()) < 1.0:
            left = rate * (1.0 - passed)
            cycles = max(1, round(left / n / CYCLE))
            heat = hot * min(1.0, left / cycles / n / FULL_HEAT)
            heat *= WARMTH[number % len(WARMTH)]
            end = passed + (1.0 - passed) / cycles
            self.cycle(number, meter, end, max(cold, heat), cold)
            number += 1


def _copied(s: Schedule) -> Schedule:
    return Schedule(*(array.copy() for array in s))
