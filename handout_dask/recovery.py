"""Recovery: what to do about failures. Pure: events in, decisions out; no clock, no IO.

Knows nothing of plans, queues or tasks; who tells it says what time it is. Any event
may come late, twice, or never.

Blame is fair. What a node dies of is charged to nobody if it was killed, told to end or
cut off from outside, and else only if one function alone was on it; of several that
were, each runs alone on its node next. HyperQueue (J. Beránek et al., SoftwareX 27,
2024, doi:10.1016/j.softx.2024.101814) charges all that ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from handout_dask.cases import (
    Case,
    Death,
    Record,
    attempts_text,
    crash_text,
    grown,
    memory_text,
)
from handout_dask.errors import (
    FunctionCrashedError,
    NodeLostError,
    ResourceExhaustedError,
)
from handout_dask.setbacks import (
    CRASH,
    CRASHED,
    EXHAUSTED,
    GPU_MEMORY,
    MEMORY,
    OUTSIDE,
    RESCHEDULED,
    RESCHEDULES,
    UNDELIVERABLE,
    UNKNOWN,
    Again,
    Attempt,
    Decision,
    Exit,
    Fault,
    GiveUp,
    Hold,
    Member,
    Quarantine,
    Tried,
)

EVIDENCE = 1.0  # s for which word of how a node died is waited for
UNEXPLAINED = 10  # deaths with one function alone on the node, killed or unexplained
STRIKES = 2  # functions that failed on a node and succeeded elsewhere
ERRORS = "errors"  # the budget of its own exceptions
SOON = 1.0  # s; of an attempt that is said to have ended longer ago, clocks differ
KEPT = 1000  # nodes whose end is remembered


class Recovery:
    """Decides, for all live runs, what becomes of functions and nodes that failed.

    Attributes
    ----------
    cases : dict
        Case of each function that was set back and has not ended.
    """

    def __init__(self) -> None:
        self.cases: dict[Member, Case] = {}
        self._over: dict[Member, float] = {}  # of others the last attempt
        self._deaths: dict[str, Death] = {}  # by worker
        self._exits: dict[str, Exit] = {}  # of workers whose death is not known yet
        self._buried: dict[str, None] = {}  # workers whose death was told
        self._records: dict[str, Record] = {}  # by node

    @property
    def is_idle(self) -> bool:
        """Whether nothing was set back, so that success is no news."""
        return not self.cases and not self._records

    # ------------------------------------------------------------- functions that fail
    def failed(self, tried: Tried, fault: Fault, now: float) -> list[Decision]:
        """A function failed on its node: it raised, took too much, or took too long."""
        case = self._enter(tried)
        if case is None:
            return []
        case.attempts.append(_with(tried.attempt, "failed", str(fault)))
        if fault.kind == RESCHEDULED:
            return [self._rescheduled(case, tried, fault, now)]
        case.bad.pop(tried.attempt.node, None)
        case.bad[tried.attempt.node] = None
        if fault.kind == EXHAUSTED:
            return [self._exhausted(case, tried, fault, now)]
        if fault.kind == CRASHED:
            over = case.charge(CRASH) >= tried.policy.crashes
        elif fault.kind == UNDELIVERABLE:  # it would be so again
            over = True
        else:
            over = case.charge(ERRORS) >= tried.policy.attempts
            over |= not tried.policy.is_tried_again(fault.names)
        if over:
            return [self._give_up(case, tried)]
        return [self._again(case, tried, now, str(fault))]

    def _rescheduled(
        self, case: Case, tried: Tried, fault: Fault, now: float
    ) -> Decision:
        """It asked to be run again, best elsewhere; no fault of its own or its node's.

        But not for ever.
        """
        over = case.charge(RESCHEDULED) >= RESCHEDULES
        if over or tried.policy.refuses(fault.names):
            return self._give_up(case, tried)
        again = self._again(case, tried, now, str(fault))
        here = tried.attempt.node
        return replace(again, avoid=(*(x for x in again.avoid if x != here), here))

    def _exhausted(
        self, case: Case, tried: Tried, fault: Fault, now: float
    ) -> Decision:
        """It gets more memory next, or another node, or runs as another variant."""
        over = case.charge(MEMORY) >= tried.policy.memory_attempts
        if tried.policy.refuses(fault.names):
            return self._give_up(case, tried)
        device = tried
        if fault.resource == GPU_MEMORY:
            device = replace(tried, claim=tried.gpu_claim, most=tried.gpu_most)
        more = grown(device, 0.0, fault.used or 0.0)
        other = case.other(tried) if over or more is None else None
        if other is not None and fault.resource in (MEMORY, GPU_MEMORY):
            again = self._again(case, tried, now, str(fault))
            return replace(again, option=other)
        if over or (more is None and fault.resource == MEMORY):
            return self._give_up(case, tried)
        if fault.resource == MEMORY:
            return self._again(case, tried, now, str(fault), memory=more)
        again = self._again(case, tried, now, str(fault), elsewhere=True)
        return replace(again, gpu_memory=more if device is not tried else None)

    # ------------------------------------------------------------------ nodes that die
    def died(
        self,
        worker: str,
        node: str,
        tried: Sequence[Tried],
        now: float,
        *,
        why: str = "",
        is_explained: bool = True,
        filled: bool = False,
        company: int = 0,
    ) -> list[Decision]:
        """A node is gone, and what was on it.

        Parameters
        ----------
        worker : str
            Which process it was: a node that returns has another one.
        node : str
            Its name.
        tried : sequence of Tried
            All that it had been sent.
        now : float
            By the clock [s].
        why : str
            Why, where that is known to have been from outside; "" is unknown.
        is_explained : bool
            Whether word of how its process ended may still come.
        filled : bool
            Whether its memory may have run out.
        company : int
            How many tasks of others it had.
        """
        if worker in self._buried:
            return []
        self._buried[worker] = None
        if len(self._buried) > KEPT:
            del self._buried[next(iter(self._buried))]
        known = [one for one in tried if self._enter(one) is not None]
        death = Death(node, tuple(known), now, filled and not why, company)
        if why:
            return self._judge(death, OUTSIDE, why, None, now)
        exit = self._exits.pop(worker, None)
        if exit is not None:
            return self._judge(death, exit.cause, str(exit), exit, now)
        if not is_explained:
            return self._judge(death, UNKNOWN, "nothing tells why", None, now)
        self._deaths[worker] = death
        why = f"node {node!r}, where it was, is gone; what it died of will be known"
        return [Hold(one.member, now + EVIDENCE, why) for one in known]

    def learned(self, worker: str, exit: Exit, now: float) -> list[Decision]:
        """Word came how the process of a node ended; before or after it was missed."""
        death = self._deaths.pop(worker, None)
        if death is not None:
            return self._judge(death, exit.cause, str(exit), exit, now)
        if worker not in self._buried:
            self._exits[worker] = exit
            if len(self._exits) > KEPT:
                del self._exits[next(iter(self._exits))]
        return []

    def passed(self, now: float) -> list[Decision]:
        """Time passed: word that has not come by now will not."""
        out: list[Decision] = []
        for worker, death in list(self._deaths.items()):
            if now >= death.at + EVIDENCE:
                del self._deaths[worker]
                out += self._judge(death, UNKNOWN, "nothing tells why", None, now)
        return out

    def _judge(
        self, death: Death, cause: str, text: str, exit: Exit | None, now: float
    ) -> list[Decision]:
        """What becomes of those that were on a node, now that it is known why."""
        why = f"node {death.node!r} was lost: {text}"
        out: list[Decision] = []
        filled = death.filled and (exit is None or not exit.asked)
        is_sole = len(death.tried) == 1 and not death.company
        running = None if exit is None or cause != MEMORY else exit.running
        if running:
            is_sole = len(running) == 1
        for tried in death.tried:
            case = self.cases.get(tried.member)
            if case is None or case.number != tried.attempt.number:
                continue  # it has ended meanwhile, or its run has
            case.attempts.append(_with(tried.attempt, "lost", why))
            if running and tried.member not in running:  # it took none as yet
                out.append(self._bereaved(case, tried, OUTSIDE, False, False, why, now))
            elif cause in (CRASH, MEMORY) and is_sole:
                out.append(self._guilty(case, tried, cause, exit, why, now))
            elif cause in (CRASH, MEMORY):
                case.suspected[cause] = case.suspected.get(cause, 0) + 1
                whole = tried.most if cause == MEMORY else None
                out.append(self._alone(case, tried, now, why, whole))
            else:
                out.append(
                    self._bereaved(case, tried, cause, filled, is_sole, why, now, exit)
                )
        return out

    def _guilty(
        self, case: Case, tried: Tried, cause: str, exit: Exit | None, why: str,
        now: float,
    ) -> Decision:  # fmt: skip
        """It was alone on its node, so it is what that died of; before too, then."""
        count = case.charge(cause, 1 + case.suspected.pop(cause, 0))
        assert exit is not None
        if cause == CRASH:
            if count >= tried.policy.crashes:
                text = crash_text(case, tried, count, exit)
                crashed = FunctionCrashedError(text, exit.code)
                return self._give_up(case, tried, crashed)
            return self._alone(case, tried, now, why, None, rests=True)
        assert exit.memory is not None
        used, limit = (x / 1e6 for x in exit.memory)
        more = grown(tried, limit, used)
        if more is None or count >= tried.policy.memory_attempts:
            other = case.other(tried)
            if other is not None:
                again = self._alone(case, tried, now, why, None, rests=True)
                return replace(again, option=other)
            text = memory_text(case, tried, used, limit, more is None)
            declared = tried.claim or None
            error = ResourceExhaustedError(text, MEMORY, declared, used)
            return self._give_up(case, tried, error)
        return self._alone(case, tried, now, why, more, rests=True)

    def _bereaved(
        self, case: Case, tried: Tried, cause: str, filled: bool, is_sole: bool,
        why: str, now: float, exit: Exit | None = None,
    ) -> Decision:  # fmt: skip
        """Its node was lost for a reason that nobody on it is charged with.

        But not for ever: who kills it each time is the function itself, or the kernel.
        """
        is_odd = cause == UNKNOWN or (exit is not None and exit.was_killed)
        if is_odd and is_sole and case.charge(UNKNOWN) >= UNEXPLAINED:
            text = (
                f"function {tried.label} was alone on {UNEXPLAINED} nodes when they "
                f"were lost, {'killed from outside' if exit else 'nothing tells why'}; "
                f"{attempts_text(case)}"
            )
            return self._give_up(case, tried, NodeLostError(text, tried.attempt.node))
        if filled:  # which of them took too much is seen when each is alone
            return self._alone(case, tried, now, why, tried.most)
        if cause == UNKNOWN and not is_sole:
            case.suspected[UNKNOWN] = case.suspected.get(UNKNOWN, 0) + 1
            case.alone |= case.suspected[UNKNOWN] > 1
        return Again(
            tried.member, now, why, case.attempts[-1], tuple(case.bad), None, case.alone
        )

    # ------------------------------------------------------------------------ success
    def done(self, member: Member, node: str, now: float) -> list[Decision]:
        """A function delivered; what it failed of before was the nodes', perhaps."""
        case = self._close(member)
        record = self._records.get(node)
        if record is not None:
            record.succeeded += 1
            if record.succeeded > len(record.struck):
                del self._records[node]
        if case is None or case.quarantine is None:
            return []
        strikes = [
            self._strike(member, case.quarantine, name, now)
            for name in case.bad
            if name != node
        ]
        return [one for one in strikes if one is not None]

    def _strike(
        self, member: Member, seconds: float, name: str, now: float
    ) -> Quarantine | None:
        """Count a function that failed on a node, and not on another."""
        record = self._records.setdefault(name, Record())
        record.struck[member] = now
        record.struck = {m: t for m, t in record.struck.items() if t > now - seconds}
        count = len(record.struck)
        if count < STRIKES or count <= record.succeeded:
            return None
        del self._records[name]
        why = f"{count} functions failed on it that succeeded elsewhere"
        return Quarantine(name, now + seconds, why)

    def gone(self, member: Member) -> None:
        """A function has ended otherwise."""
        self._close(member, for_good=True)

    def forget(self, token: str) -> None:
        """A run is over."""
        for known in (self.cases, self._over):
            for member in [m for m in known if m[0] == token]:
                del known[member]

    def _close(self, member: Member, for_good: bool = False) -> Case | None:
        case = self.cases.pop(member, None)
        if case is not None:
            self._over[member] = inf if for_good else case.number + 1
        return case

    # ----------------------------------------------------------------------- decisions
    def _enter(self, tried: Tried) -> Case | None:
        """The case of an attempt that is over; None if that is known already."""
        case, number = self.cases.get(tried.member), tried.attempt.number
        last = self._over.get(tried.member, 0) if case is None else case.number
        if number <= last:
            return None
        if case is None:
            case = self.cases[tried.member] = Case()
        case.number, case.quarantine = number, tried.policy.quarantine
        case.options.add(tried.option)
        return case

    def _again(
        self, case: Case, tried: Tried, now: float, why: str,
        memory: float | None = None, elsewhere: bool = False,
    ) -> Again:  # fmt: skip
        """Again after a rest that is counted from when it failed."""
        rest = tried.policy.rest(case.failures, *tried.member)
        end = case.attempts[-1].end
        begin = end if 0.0 <= now - end < SOON else now
        avoid = tuple(case.bad) if tried.policy.elsewhere or elsewhere else ()
        why = f"attempt {tried.attempt.number} failed with {why}"
        return Again(
            tried.member, max(now, begin + rest), why, case.attempts[-1], avoid,
            memory, case.alone,
        )  # fmt: skip

    def _alone(
        self, case: Case, tried: Tried, now: float, why: str, memory: float | None,
        rests: bool = False,
    ) -> Again:  # fmt: skip
        case.alone = True
        rest = tried.policy.rest(case.failures, *tried.member) if rests else 0.0
        finite = memory if memory is not None and 0.0 < memory < inf else None
        return Again(
            tried.member, now + rest, why, case.attempts[-1], (), finite, True
        )  # fmt: skip

    def _give_up(
        self, case: Case, tried: Tried, error: Exception | None = None
    ) -> GiveUp:
        self._close(tried.member, for_good=True)
        return GiveUp(tried.member, case.attempts[-1], error)


def _with(attempt: Attempt, outcome: str, error: str) -> Attempt:
    return Attempt(
        attempt.number, attempt.node, attempt.start, attempt.end, outcome, error
    )
