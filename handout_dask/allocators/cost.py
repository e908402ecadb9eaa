"""Allocator ``cost``: least money under a deadline, or least time under a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from handout_dask.allocators.contention import as_played, load
from handout_dask.allocators.decoder import Aim
from handout_dask.allocators.effort import Effort, Meter, is_number
from handout_dask.allocators.engine import Weights, place, upward_rank
from handout_dask.allocators.makespan import Time, list_schedules
from handout_dask.allocators.search import improve, money_of, value_of_plan
from handout_dask.costs import parse_quantity
from handout_dask.errors import AllocationError, CostError, UnsatisfiableError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

LONGEST = 1.0  # s that a search takes by default at most: money is worth more than time
TASTES = (0.3, 1.0, 3.0, 1000.0)  # mean seconds that are given for the money
HASTE = 0.3  # share of the search for how fast it can be, where that is asked
PART, SIDESTEPS = 0.15, 3  # shares of the search that go the other way round
STEPS = 8  # of the bisection for the largest taste that keeps a deadline
TIE = (
    1e-4  # share of the value by which the faster of two equally cheap plans is better
)
STERN = 10.0  # a share beyond a limit costs so many times that share of the value


@dataclass(frozen=True, repr=False)
class Cost(Effort):
    """Least money with a deadline, least makespan with a budget; else least money.

    Parameters
    ----------
    time_budget, iterations, seed
        As for ``time``; by default the search takes up to 1 s, for each plan.
    deadline : float or str, optional
        Seconds, also as text with a unit, or ``"1.5x"``: so many times the makespan of
        the plan by ``time``.
    budget : float, optional
        Money; with ``by="energy"`` watt seconds.
    tradeoff : int, optional
        How many plans `plans` shall give.
    by : {"money", "energy"}
        What is saved: money as the cluster bills it, by the function or by the time
        that nodes are held; or the nodes' watts while functions run.

    Notes
    -----
    The search of ``time``, with money as its value and a growing price of each second
    beyond the deadline, from list schedules that weigh money against time in several
    ways (as do Byun et al., FGCS 27(8), 2011, doi:10.1016/j.future.2011.05.001, in
    balancing cost by deadline). What is held is moved together: on nodes of one slot
    functions start as late as those behind them allow.
    """

    deadline: float | str | None = None
    budget: float | None = None
    tradeoff: int | None = None
    by: str = "money"

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises
        ------
        AllocationError
            That says which parameter is wrong, and what it may be.
        """
        Effort.__post_init__(self)
        if self.by not in ("money", "energy"):
            raise AllocationError(f"by={self.by!r} must be 'money' or 'energy'")
        given = [self.deadline, self.budget, self.tradeoff]
        if sum(x is not None for x in given) > 1:
            raise AllocationError(
                f"{self!r}: give one of deadline, budget and tradeoff; the other is "
                "what is minimised"
            )
        if self.deadline is not None:
            _deadline(self.deadline)
        if self.budget is not None:
            _positive("budget", self.budget)
        if self.tradeoff is not None and not (
            is_number(self.tradeoff, whole=True) and self.tradeoff >= 2
        ):
            raise AllocationError(
                f"tradeoff={self.tradeoff!r} must be a whole number, at least 2"
            )

    def allocate(self, problem: Problem) -> Plan:
        """The best plan found within the limit.

        Raises
        ------
        UnsatisfiableError
            If no plan is found that keeps it; it says what is reachable.
        """
        if self.tradeoff is not None:
            raise AllocationError(
                "a trade-off is several plans: call plans(problem) of the allocator, "
                "or `handout plan --tradeoff`"
            )
        if not problem.functions:
            return place(problem, allocator=repr(self))
        load(problem)
        meter = Meter()
        if self.budget is not None:
            firsts = self._firsts(problem, meter, budget=self.budget)
            firsts.append(self._fastest(problem))
            return self._quickest(problem, firsts, self.budget, meter)
        fastest, deadline = [], math.inf
        if self.deadline is not None:
            deadline, factor = _deadline(self.deadline)
            if factor:
                fastest.append(self._fastest(problem))
                deadline = factor * fastest[0].makespan
        firsts = self._firsts(problem, meter, deadline) + fastest
        for share in (HASTE, 1.0):
            if deadline < min(plan.makespan for plan in firsts):
                firsts.append(self._fastest(problem, share))
        if deadline < math.inf and not meter.is_overdrawn(problem):
            part = self._part(meter)
            firsts.append(part._cheapest(problem, firsts, math.inf, Meter()))
        # What is searched on the way comes out of the same time.
        return self._cheapest(problem, firsts, deadline, meter)

    def plans(self, problem: Problem) -> tuple[Plan, ...]:
        """Plans along the trade-off of time and money, the fastest first.

        Parameters
        ----------
        problem : Problem
            Feasible.

        Returns
        -------
        tuple of Plan
            At most `tradeoff` of them, each cheaper than the one before it; fewer if
            there is less to choose. Not yet checked.
        """
        if not problem.functions:
            return (place(problem, allocator=repr(self)),)
        firsts = [*self._firsts(problem, Meter()), self._fastest(problem)]
        fast = max(min(plan.makespan for plan in firsts), 1e-9)
        found = [self._cheapest(problem, firsts, math.inf, Meter())]
        slow = max(found[0].makespan, fast)
        for step in range((self.tradeoff or 2) - 2, -1, -1):
            deadline = fast * (slow / fast) ** (step / ((self.tradeoff or 2) - 1))
            if deadline < found[-1].makespan:
                meter = Meter()
                known = firsts + found + self._firsts(problem, meter, deadline)
                found.append(self._cheapest(problem, known, deadline, meter))
        curve: list[Plan] = []
        for plan in reversed(found):  # the fastest first
            if not curve or self._money(plan) < self._money(curve[-1]):
                curve.append(plan)
        return tuple(curve)

    def allowed(self, problem: Problem) -> float | None:
        """The deadline in seconds; None if there is none."""
        if self.deadline is None:
            return None
        seconds, factor = _deadline(self.deadline)
        return factor * self._fastest(problem).makespan if factor else seconds

    # --------------------------------------------------------------- one plan
    def price(self, problem: Problem) -> np.ndarray | None:
        """(m,) watts of each node where energy stands in for money, else None."""
        if self.by == "money":
            return None
        return np.array([node.watts for node in problem.nodes], dtype=float)

    def _money(self, plan: Plan) -> float:
        return money_of(plan, self.price(plan.problem))

    def _fastest(self, problem: Problem, share: float = HASTE) -> Plan:
        seconds, moves = self.time_budget, self.iterations
        return Time(
            None if seconds is None else share * seconds,
            None if moves is None else int(share * moves),
            self.seed,
        ).allocate(problem)

    def _firsts(
        self,
        problem: Problem,
        meter: Meter,
        deadline: float = math.inf,
        budget: float = math.inf,
    ) -> list[Plan]:
        """List schedules with more and more taste for cheap nodes.

        With a limit, also with what just keeps it. No more than half of the search
        goes into them, but for the first ones.
        """
        price = self.price(problem)
        rate = price
        if rate is None:
            rate = np.array([node.price for node in problem.nodes]) / 3600.0
        plans = list_schedules(problem)
        if not rate.any():
            return plans
        key = -upward_rank(problem)

        def tasteful(taste: float) -> Plan:
            weights = Weights(end=1.0, money=taste / float(rate[rate > 0].mean()))
            plan = place(problem, key=key, weights=weights, price=rate)
            return as_played(plan) if problem.network == "oneport" else plan

        self.limit(meter, plans[0].makespan, LONGEST)
        cheapest = place(problem, key=key, weights=Weights(money=1.0), price=rate)
        ported = problem.network == "oneport"
        plans.append(as_played(cheapest) if ported else cheapest)
        for taste in TASTES:
            if not meter.is_overdrawn(problem):
                plans.append(tasteful(taste))
        low, high = math.log(TASTES[0]), math.log(TASTES[-1])
        limited = min(deadline, budget) < math.inf
        for _ in range(STEPS if limited else 0):
            if meter.is_overdrawn(problem):
                break
            plans.append(tasteful(math.exp((low + high) / 2)))
            thrifty = self._money(plans[-1]) <= budget
            if plans[-1].makespan <= deadline and not (budget < math.inf and thrifty):
                low = (low + high) / 2
            else:
                high = (low + high) / 2
        return plans

    def _aim(self, problem: Problem, plan: Plan) -> Aim:
        """To be cheap, scaled by a plan."""
        cluster = problem.cluster
        held = self.by == "money" and cluster.billing == "held"
        money = money_of(plan, self.price(problem))
        tie = TIE * money / plan.makespan if plan.makespan else 0.0
        quantum = cluster.quantum if held else 0.0
        return Aim(tie, 1.0, 0.0, math.inf, 0.0, math.inf, 0.0, held, quantum)

    def _cheapest(
        self, problem: Problem, firsts: list[Plan], deadline: float, meter: Meter
    ) -> Plan:
        quickest = min(firsts, key=lambda plan: plan.makespan)
        aim = self._aim(problem, quickest)
        if deadline < math.inf:
            limit = deadline * (1 + 1e-12)
            scale = money_of(quickest, self.price(problem)) or 1.0
            aim = aim._replace(deadline=limit, late=STERN * scale / max(deadline, 1e-9))
        plan = self._improve(problem, firsts, meter, aim)
        if plan is None:
            least = float(upward_rank(problem, "best", transfer=False).max())
            raise UnsatisfiableError(
                f"no plan was found that ends within {deadline:.6g} s: the fastest one "
                f"found takes {quickest.makespan:.6g} s, and none can take less than "
                f"{least:.6g} s. Allow more time, add faster nodes, or search longer "
                "(time_budget).",
                {},
            )
        return plan

    def _part(self, meter: Meter) -> Cost:
        """The same without a limit, with a share of the effort."""
        seconds, moves = meter.seconds, self.iterations
        return replace(
            self,
            deadline=None,
            budget=None,
            time_budget=None if seconds is None else PART * seconds,
            iterations=None if moves is None else int(PART * moves),
        )

    def _from_the_other_side(
        self, problem: Problem, firsts: list[Plan], budget: float, meter: Meter
    ) -> list[Plan]:
        """Cheap plans for deadlines, of which one is nearly too dear for the budget."""
        part, found = self._part(meter), list(firsts)
        fast = max(min(plan.makespan for plan in firsts), 1e-9)
        slow = max(min(firsts, key=self._money).makespan, fast)
        if not meter.is_overdrawn(problem):
            found.append(part._cheapest(problem, found, math.inf, Meter()))
        for _ in range(SIDESTEPS):
            if meter.is_overdrawn(problem):
                break
            deadline = math.sqrt(fast * slow)
            found.append(part._cheapest(problem, found, deadline, Meter()))
            if self._money(found[-1]) <= budget:
                slow = deadline
            else:
                fast = deadline
        return found

    def _quickest(
        self, problem: Problem, firsts: list[Plan], budget: float, meter: Meter
    ) -> Plan:
        price = self.price(problem)
        firsts = self._from_the_other_side(problem, firsts, budget, meter)
        cheapest = min(firsts, key=self._money)
        aim = self._aim(problem, cheapest)
        late = STERN * cheapest.makespan / max(budget, 1e-9)
        aim = aim._replace(time=1.0, money=0.0, budget=budget * (1 + 1e-12), over=late)
        plan = self._improve(problem, firsts, meter, aim)
        if plan is None:
            saved = replace(self, budget=None).allocate(problem)
            least = money_of(saved, price)
            if least <= budget:
                return saved
            raise UnsatisfiableError(
                f"no plan was found for {budget:.6g}: the cheapest one found costs "
                f"{least:.6g} and takes {saved.makespan:.6g} s. Allow more money, or "
                "add cheaper nodes.",
                {},
            )
        return plan

    def _improve(
        self, problem: Problem, firsts: list[Plan], meter: Meter, aim: Aim
    ) -> Plan | None:
        price = self.price(problem)
        plan = improve(problem, firsts, self, repr(self), meter, aim, price, LONGEST)
        return None if value_of_plan(aim, plan, price) == math.inf else plan


def _deadline(given: float | str) -> tuple[float, float]:
    """``(seconds, factor)`` of which one is 0."""
    if isinstance(given, str) and given.strip().lower().endswith("x"):
        try:
            factor = float(given.strip()[:-1])
        except ValueError:
            factor = math.nan
        if not 1.0 <= factor < math.inf:
            raise AllocationError(
                f"deadline={given!r}: a factor of the fastest plan is at least '1x'"
            )
        return 0.0, factor
    if isinstance(given, str):
        try:
            given = parse_quantity("", "cpu_time", given) / 1e3
        except CostError:
            raise AllocationError(
                f"deadline={given!r} must be seconds, a text such as '90 s' or "
                "'10 min', or a factor such as '1.5x'"
            ) from None
    return _positive("deadline", given), 0.0


def _positive(what: str, given: object) -> float:
    if not is_number(given) or not given > 0:  # type: ignore[operator]
        raise AllocationError(f"{what}={given!r} must be a finite number above 0")
    return float(given)  # type: ignore[arg-type]
