"""The problem of least money under a deadline, as a model of CP-SAT. Needs ortools.

A relaxation of the judge's problem: time is counted in ticks, and durations, transfers
and money are rounded down, so that the solver's best bound is a lower bound at any
scale. For nodes that run one task at a time, as those of strong8 do.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

TICKS = 1_000_000  # of a deadline
UNITS = 10_000_000  # of the money of all tasks, each on its dearest node


class Model:
    """The problem in ticks: variables, and the constraints of every schedule."""

    def __init__(self, judge: Any, problem: Any, nodeset: Any, deadline: float) -> None:
        from ortools.sat.python import cp_model

        self.cp = cp_model.CpModel()
        self.tick = deadline / TICKS  # seconds
        n, m = len(problem.tasks), len(nodeset.nodes)
        self.seconds = judge.durations(problem, nodeset)  # (n, m)
        self.span = [
            [math.floor(self.seconds[i, j] / self.tick) for j in range(m)]
            for i in range(n)
        ]
        self.nodeset, self.problem = nodeset, problem
        head, tail = self._paths()
        cp, self.on, self.start, self.end = self.cp, [], [], []
        for i in range(n):
            on = [cp.new_bool_var(f"on {i} {j}") for j in range(m)]
            cp.add_exactly_one(on)
            start = cp.new_int_var(head[i], TICKS, f"start {i}")
            end = cp.new_int_var(0, TICKS - tail[i], f"end {i}")
            took = sum(on[j] * self.span[i][j] for j in range(m))
            cp.add(end == start + took)
            self.on.append(on)
            self.start.append(start)
            self.end.append(end)
        for j in range(m):
            cp.add_no_overlap(
                cp.new_optional_interval_var(
                    self.start[i], self.span[i][j], self.end[i], self.on[i][j], ""
                )
                for i in range(n)
                if self.span[i][j]  # what takes no tick may run within another
            )
            cp.add(sum(self.on[i][j] * self.span[i][j] for i in range(n)) <= TICKS)
        for v in range(n):
            for u, size in problem.preds[v]:
                self._follow(u, v, size)

    def _paths(self) -> tuple[list[int], list[int]]:
        """Least ticks before the start and after the end of each task."""
        order, least = self.problem.order, [min(row) for row in self.span]
        head, tail = [0] * len(order), [0] * len(order)
        for v in order:
            for u, _ in self.problem.preds[v]:
                head[v] = max(head[v], head[u] + least[u])
        for u in reversed(order):
            for v, _ in self.problem.succs[u]:
                tail[u] = max(tail[u], least[v] + tail[v])
        return head, tail

    def _follow(self, u: int, v: int, size: float) -> None:
        """v starts when what it reads of u has arrived."""
        self.cp.add(self.start[v] >= self.end[u])
        nodes = range(len(self.nodeset.nodes))
        for a in nodes:
            delay = {
                b: math.floor(self.nodeset.transfer(a, b, size) / self.tick)
                for b in nodes
                if b != a
            }
            least = min(delay.values())
            on_a, follows = self.on[u][a], self.start[v] - self.end[u]
            if least:
                self.cp.add(follows >= least).only_enforce_if(on_a, ~self.on[v][a])
            for b, ticks in delay.items():
                if ticks > least:
                    self.cp.add(follows >= ticks).only_enforce_if(on_a, self.on[v][b])

    def pay_functions(self) -> tuple[Any, float, float]:
        """Objective for billing by function, money of a unit, and what to take off."""
        price = [node.price_per_hour / 3600 for node in self.nodeset.nodes]
        money = (self.seconds * price).tolist()  # (n, m)
        unit = sum(map(max, money)) / UNITS
        total = sum(
            here * math.floor(paid / unit)
            for on, row in zip(self.on, money, strict=True)
            for here, paid in zip(on, row, strict=True)
        )
        return total, unit, 0.0

    def pay_holds(self) -> tuple[Any, float, float]:
        """Objective for billing by hold, money of its unit, and what to take off.

        A hold in ticks, of starts and durations that were rounded down, is less than
        one tick above the real hold; that tick is taken off for every node.
        """
        price = [Fraction(str(node.price_per_hour)) for node in self.nodeset.nodes]
        whole = math.lcm(*(x.denominator for x in price))  # makes prices whole numbers
        shared = math.gcd(*(int(x * whole) for x in price))
        unit = shared / whole / 3600 * self.tick
        total = 0
        for j, each in enumerate(price):
            first, last, hold = (
                self.cp.new_int_var(0, TICKS, f"{what} {j}")
                for what in ("first", "last", "hold")
            )
            self.cp.add(hold == last - first)
            for i, on in enumerate(self.on):
                self.cp.add(first <= self.start[i]).only_enforce_if(on[j])
                self.cp.add(last >= self.end[i]).only_enforce_if(on[j])
            load = sum(on[j] * self.span[i][j] for i, on in enumerate(self.on))
            self.cp.add(hold >= load)
            total += hold * int(each * whole / shared)
        return total, unit, float(sum(price)) / 3600 * self.tick

    def hint(self, nodes: list[int], starts: list[float]) -> None:
        """Begin from a schedule: the node and the start [s] of each task."""
        for i, (j, start) in enumerate(zip(nodes, starts, strict=True)):
            for k, on in enumerate(self.on[i]):
                self.cp.add_hint(on, k == j)
            self.cp.add_hint(self.start[i], math.floor(start / self.tick))
