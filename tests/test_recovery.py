"""What is decided about failures: laws, and any order of events."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from handout_dask.errors import (
    FunctionCrashedError,
    NodeLostError,
    ResourceExhaustedError,
)
from handout_dask.recovery import EVIDENCE, UNEXPLAINED, Recovery
from handout_dask.retry import RetryPolicy
from handout_dask.setbacks import (
    RESCHEDULES,
    Again,
    Attempt,
    Exit,
    Fault,
    GiveUp,
    Hold,
    Quarantine,
    Tried,
    overdue,
)

A, B, C = ("run", 0), ("run", 1), ("run", 2)
RAISED = Fault("raised", ("builtins.ValueError", "builtins.Exception"), "no")
SEGV = Exit(-11, 77, None, "Fatal Python error: Segmentation fault")
KILLED = Exit(-9, 77)
OOM = Exit(-9, 77, (310e6, 300e6))


def tried(member=A, number=1, node="n0", end=10.0, claim=0.0, most=0.0, **policy):
    attempt = Attempt(number, node, end - 1.0, end)
    retry = RetryPolicy(**{"jitter": 0.0, **policy})
    return Tried(member, f"'{member[1]}'", retry, attempt, claim, most)


def one(decisions):
    (decision,) = decisions
    return decision


def die(recovery, who, exit, now=10.0, worker=None, **about):
    """A node dies with these on it, and its nanny tells how."""
    worker = worker or f"tcp://{now}"
    told = recovery.died(worker, "n0", who, now, **about)
    assert all(isinstance(d, Hold) for d in told)
    assert [d.member for d in told] == [t.member for t in who]
    return recovery.learned(worker, exit, now + 0.1)


# ------------------------------------------------------------------- own exceptions
def test_a_function_fails_at_once_without_a_policy():
    assert isinstance(one(Recovery().failed(tried(), RAISED, 10.0)), GiveUp)


def test_it_is_tried_so_often_and_rests_longer_each_time():
    recovery, ends = Recovery(), [10.0, 20.0, 30.0]
    policy = {"attempts": 4, "backoff": 1.0, "factor": 3.0}
    for number, end in enumerate(ends, 1):
        again = one(
            recovery.failed(tried(number=number, end=end, **policy), RAISED, end)
        )
        assert (again.at, again.why) == (
            end + 3.0 ** (number - 1),
            f"attempt {number} failed with ValueError: no",
        )
    last = one(recovery.failed(tried(number=4, end=90.0, **policy), RAISED, 90.0))
    assert (type(last), last.error) == (GiveUp, None)


def test_a_rest_counts_from_when_it_failed_not_from_the_news_of_it():
    policy = {"attempts": 2, "backoff": 2.0}
    again = one(Recovery().failed(tried(end=10.0, **policy), RAISED, 10.3))
    assert again.at == 12.0
    late = one(Recovery().failed(tried(end=10.0, **policy), RAISED, 15.0))
    assert late.at == 17.0  # the node's clock is not ours


@pytest.mark.parametrize(
    "policy", [{"retry_on": OSError}, {"never": "ValueError"}, {"never": Exception}]
)
def test_what_is_not_worth_it_is_not_tried_again(policy):
    decision = one(Recovery().failed(tried(attempts=9, **policy), RAISED, 10.0))
    assert isinstance(decision, GiveUp)


def test_what_would_be_so_again_is_not_tried_again():
    fault = Fault("undeliverable", ("handout_dask.errors.UndeliverableError",))
    assert isinstance(one(Recovery().failed(tried(attempts=9), fault, 10.0)), GiveUp)


ASKED = Fault("rescheduled", ("handout_dask.errors.RescheduledError",))


def test_what_asks_to_be_run_again_is_so_often_at_most_and_elsewhere_if_it_can():
    recovery = Recovery()
    for number in range(1, RESCHEDULES):
        again = one(recovery.failed(tried(number=number, node="n1"), ASKED, 10.0))
        assert (again.at, again.avoid) == (10.0, ("n1",))
        assert again.why.endswith("failed with Reschedule: it asked to be run again")
    last = one(recovery.failed(tried(number=RESCHEDULES), ASKED, 10.0))
    assert isinstance(last, GiveUp)


def test_nodes_that_are_left_because_a_function_asks_for_it_are_not_to_blame():
    recovery = Recovery()
    for member in (A, B, C):
        recovery.failed(tried(member), ASKED, 10.0)
        assert recovery.done(member, "n1", 11.0) == []


def test_it_goes_elsewhere_if_the_policy_says_so():
    recovery, policy = Recovery(), {"attempts": 9, "elsewhere": True}
    one(recovery.failed(tried(node="n0", **policy), RAISED, 10.0))
    one(recovery.failed(tried(number=2, node="n1", **policy), RAISED, 11.0))
    again = one(recovery.failed(tried(number=3, node="n0", **policy), RAISED, 12.0))
    assert again.avoid == ("n1", "n0")


def test_budgets_are_separate():
    """Crashes, errors and memory are each counted for themselves."""
    recovery, policy = Recovery(), {"attempts": 2, "crashes": 2, "memory_attempts": 2}
    crash = Fault("crashed", (), "ended by SIGSEGV")
    full = Fault("exhausted", (), "", "memory", 150.0, 100.0)
    for number, fault in enumerate((RAISED, crash, full), 1):
        one_more = tried(number=number, claim=100.0, most=900.0, **policy)
        assert isinstance(one(recovery.failed(one_more, fault, 10.0)), Again)
    last = tried(number=4, claim=100.0, most=900.0, **policy)
    assert isinstance(one(recovery.failed(last, crash, 10.0)), GiveUp)


# -------------------------------------------------------------------------- memory
def test_what_took_too_much_claims_more_up_to_what_there_is():
    recovery = Recovery()
    policy = {"memory_attempts": 9, "claim": 100.0, "most": 350.0}
    full = Fault("exhausted", (), "", "memory", 150.0, 100.0)
    assert one(recovery.failed(tried(**policy), full, 10.0)).memory == 300.0
    policy["claim"] = 300.0
    full = Fault("exhausted", (), "", "memory", 310.0, 300.0)
    assert one(recovery.failed(tried(number=2, **policy), full, 10.0)).memory == 350.0
    policy["claim"] = 350.0
    full = Fault("exhausted", (), "", "memory", 450.0, 350.0)
    decision = one(recovery.failed(tried(number=3, **policy), full, 10.0))
    assert isinstance(decision, GiveUp)


def test_what_took_all_that_any_node_has_fails_at_its_first_try():
    decision = one(die(Recovery(), [tried(claim=100.0, most=300.0)], OOM))
    assert isinstance(decision, GiveUp)
    error = decision.error
    assert isinstance(error, ResourceExhaustedError)
    assert (error.resource, error.declared, error.measured) == ("memory", 100.0, 310.0)
    for part in ("function '0'", "'n0'", "310 of 300 MB", "no node has more"):
        assert part in str(error)


def test_a_larger_node_gets_what_filled_a_small_one():
    again = one(die(Recovery(), [tried(claim=100.0, most=900.0)], OOM))
    assert (again.memory, again.alone) == (620.0, True)


def test_who_ran_alone_took_it_all_whatever_waited_behind_it():
    oom = replace(OOM, running=(A,))
    decisions = die(Recovery(), [tried(A, most=300.0), tried(B, most=300.0)], oom)
    assert [type(d) for d in decisions] == [GiveUp, Again]
    assert isinstance(decisions[0].error, ResourceExhaustedError)
    assert (decisions[1].alone, decisions[1].memory) == (False, None)


def test_what_has_ended_though_that_was_not_heard_of_is_not_charged():
    oom = replace(OOM, running=(B,))
    decisions = die(Recovery(), [tried(A, most=300.0), tried(B, most=300.0)], oom)
    assert [type(d) for d in decisions] == [Again, GiveUp]


@pytest.mark.parametrize("beside", [B, C, None])
def test_of_several_that_ran_none_is_charged_with_the_memory(beside):
    oom = replace(OOM, running=(A, beside))
    decisions = die(Recovery(), [tried(A, most=300.0), tried(B, most=300.0)], oom)
    assert [type(d) for d in decisions] == [Again, Again]
    assert [d.alone for d in decisions] == [True, beside == B]


def test_where_it_is_not_known_what_ran_all_are_suspected():
    who = [tried(A, most=300.0), tried(B, most=300.0)]
    assert [d.alone for d in die(Recovery(), who, OOM)] == [True, True]


# ----------------------------------------------------------------- nodes that die
def test_what_was_killed_from_outside_is_charged_to_nobody_however_often():
    recovery = Recovery()
    for number in range(1, 50):
        who = [tried(A, number), tried(B, number)]
        decisions = die(recovery, who, KILLED, float(number))
        assert [(type(d), d.at, d.alone) for d in decisions] == [
            (Again, number + 0.1, False)
        ] * 2


def test_of_several_on_a_node_that_crashed_each_runs_alone_next():
    recovery = Recovery()
    decisions = die(recovery, [tried(A), tried(B), tried(C)], SEGV)
    assert all(isinstance(d, Again) and d.alone for d in decisions)
    assert recovery.done(A, "n1", 11.0) == []
    assert recovery.done(B, "n1", 12.0) == []
    again = one(die(recovery, [tried(C, 2)], SEGV, 20.0))
    assert (type(again), again.alone) == (Again, True)
    last = one(die(recovery, [tried(C, 3)], SEGV, 30.0))
    assert isinstance(last, GiveUp)
    assert isinstance(last.error, FunctionCrashedError)
    assert last.error.code == -11
    for part in ("function '2'", "3 times", "SIGSEGV", "pid 77", "'n0'", "Fatal"):
        assert part in str(last.error)
    assert str(last.error).count("on 'n0'") == 3  # its attempts


def test_of_several_on_a_node_that_crashed_none_is_charged_before_it_was_alone():
    who = [tried(A, crashes=1), tried(B, crashes=1)]
    decisions = die(Recovery(), who, SEGV)
    assert [(type(d), d.alone) for d in decisions] == [(Again, True)] * 2


def test_an_exit_code_is_told_as_such():
    recovery = Recovery()
    last = one(die(recovery, [tried(crashes=1)], Exit(3, 42)))
    assert "exit code 3 (pid 42)" in str(last.error)


def test_who_survives_alone_is_cleared():
    recovery = Recovery()
    die(recovery, [tried(A), tried(B)], SEGV)
    recovery.done(A, "n0", 12.0)
    assert A not in recovery.cases


def test_beside_tasks_of_others_nobody_is_charged():
    recovery = Recovery()
    for number in range(1, 20):
        decision = one(die(recovery, [tried(A, number)], SEGV, number, company=1))
        assert isinstance(decision, Again)


def test_what_was_removed_on_purpose_is_charged_to_nobody():
    recovery = Recovery()
    for number in range(1, 30):
        told = recovery.died(
            f"w{number}", "n0", [tried(A, number)], 1.0, why="it was frozen"
        )
        assert isinstance(one(told), Again)
        assert "it was frozen" in one(told).why
        assert recovery.learned(f"w{number}", SEGV, 1.5) == []


def test_word_of_the_end_may_come_first():
    recovery = Recovery()
    assert recovery.learned("w", Exit(3, 1), 9.9) == []
    decision = one(recovery.died("w", "n0", [tried(crashes=1)], 10.0))
    assert isinstance(decision, GiveUp)


def test_without_word_nobody_is_charged_until_it_is_too_often():
    recovery = Recovery()
    for number in range(1, UNEXPLAINED):
        who = [tried(A, number)]
        recovery.died(f"w{number}", "n0", who, 10.0 * number)
        assert recovery.passed(10.0 * number + EVIDENCE / 2) == []
        decision = one(recovery.passed(10.0 * number + EVIDENCE))
        assert isinstance(decision, Again)
    recovery.died("last", "n0", [tried(A, UNEXPLAINED)], 999.0)
    decision = one(recovery.passed(999.0 + EVIDENCE))
    assert isinstance(decision.error, NodeLostError)


def test_who_was_alone_on_nodes_that_were_killed_does_not_go_on_for_ever():
    recovery = Recovery()
    for number in range(1, UNEXPLAINED):
        decision = one(die(recovery, [tried(A, number)], KILLED, worker=number))
        assert isinstance(decision, Again)
        assert not decision.alone
    decision = one(die(recovery, [tried(A, UNEXPLAINED)], KILLED, worker="last"))
    assert isinstance(decision.error, NodeLostError)
    assert "killed from outside" in str(decision.error)


def test_what_is_never_worth_it_is_not_for_want_of_memory_either():
    fault = Fault("exhausted", ("builtins.MemoryError",), "no", "memory", 10.0)
    decision = one(Recovery().failed(tried(most=100.0, never=MemoryError), fault, 1.0))
    assert isinstance(decision, GiveUp)


def test_who_filled_a_node_that_was_killed_is_alone_next_with_all_its_memory():
    who = [tried(A, most=300.0), tried(B, most=300.0)]
    decisions = die(Recovery(), who, KILLED, filled=True)
    assert [(d.alone, d.memory) for d in decisions] == [(True, 300.0)] * 2


def test_late_and_doubled_word_changes_nothing():
    recovery = Recovery()
    die(recovery, [tried(A)], KILLED, worker="w")
    assert recovery.learned("w", SEGV, 12.0) == []
    assert recovery.died("w", "n0", [tried(A)], 12.0) == []
    assert recovery.failed(tried(A), RAISED, 12.0) == []


# ---------------------------------------------------------------------- quarantine
def fail_and_succeed(recovery, member, bad="n0", good="n1", now=10.0, **policy):
    policy = {"attempts": 5, "elsewhere": True, **policy}
    one(recovery.failed(tried(member, node=bad, end=now, **policy), RAISED, now))
    return recovery.done(member, good, now)


def test_a_node_where_two_fail_that_run_elsewhere_is_left_out_for_a_while():
    recovery = Recovery()
    assert fail_and_succeed(recovery, A) == []
    found = one(fail_and_succeed(recovery, B, now=12.0, quarantine=30.0))
    assert (found.node, found.until) == ("n0", 42.0)
    assert isinstance(found, Quarantine)
    assert fail_and_succeed(recovery, C, now=50.0) == []  # it begins anew


def test_a_node_where_others_succeed_is_not_left_out():
    recovery = Recovery()
    fail_and_succeed(recovery, A)
    recovery.done(("run", 7), "n0", 11.0)
    recovery.done(("run", 8), "n0", 11.0)
    assert fail_and_succeed(recovery, B) == []


@pytest.mark.parametrize(
    ("now", "policy"), [(100.0, {"quarantine": 30.0}), (11.0, {"quarantine": None})]
)
def test_what_is_long_ago_or_not_asked_for_does_not_count(now, policy):
    recovery = Recovery()
    fail_and_succeed(recovery, A, **policy)
    assert fail_and_succeed(recovery, B, now=now, **policy) == []


# ------------------------------------------------------------------------- clocks
@pytest.mark.parametrize(
    ("policy", "waited", "passed", "clock"),
    [
        ({}, 1e9, 1e9, None),
        ({"max_waiting": 5.0}, 4.9, 100.0, None),
        ({"max_waiting": 5.0}, None, 100.0, None),
        ({"max_waiting": 5.0}, 5.0, 100.0, "waiting"),
        ({"deadline": 5.0}, None, 4.9, None),
        ({"deadline": 5.0}, None, 5.0, "deadline"),
    ],
)
def test_a_clock_that_has_run_out_is_named(policy, waited, passed, clock):
    error = overdue("'f'", RetryPolicy(**policy), waited, passed)
    assert (error and error.clock) == clock
    if error is not None:
        assert error.seconds == 5.0
        assert "function 'f'" in str(error)


# ------------------------------------------------------------- any order of events
NODES = ("n0", "n1", "n2")
POISON = 0  # it ends its process whenever it runs
POLICIES = (
    RetryPolicy(crashes=3),
    RetryPolicy(attempts=3, backoff=0.5, elsewhere=True),
    RetryPolicy(attempts=2, memory_attempts=3, quarantine=None),
    RetryPolicy(),
)


class Recoveries(RuleBasedStateMachine):
    """A world with nodes and functions, as the shell would show it to `Recovery`.

    The model knows what really happened; messages are lost, doubled and late.
    """

    def __init__(self):
        super().__init__()
        self.recovery, self.now = Recovery(), 100.0
        self.state = {}  # member -> free | runs | rests | held | done | failed
        self.where, self.number, self.until, self.reason = {}, {}, {}, {}
        self.alone, self.decided, self.errors, self.culprit = set(), set(), {}, {}
        self.worker = {node: f"{node}-0" for node in NODES}
        self.old = []  # messages that may come again
        self.suspects = set()  # were on a node that crashed, and have not ended since
        self.life = 0
        for i in range(8):
            self.state["run", i], self.number["run", i] = "free", 0
            self.errors["run", i] = self.culprit["run", i] = 0

    # ------------------------------------------------------------------- helpers
    def on(self, node):
        return [
            m for m, s in self.state.items() if s == "runs" and self.where[m] == node
        ]

    def policy(self, member):
        return POLICIES[member[1] % len(POLICIES)]

    def tried(self, member):
        attempt = Attempt(
            self.number[member], self.where[member], self.now - 0.1, self.now
        )
        policy = self.policy(member)
        return Tried(member, repr(member), policy, attempt, 100.0, 400.0)

    def enact(self, decisions):
        for d in decisions:
            if isinstance(d, Quarantine):
                assert d.until > self.now
                continue
            assert self.state[d.member] in ("ended", "held"), "decided twice"
            if isinstance(d, Hold):
                assert self.state[d.member] == "ended"
                self.state[d.member] = "held"
                self.until[d.member], self.reason[d.member] = d.until, d.why
                continue
            key = d.member, d.attempt.number
            assert key not in self.decided, "two decisions on one attempt"
            self.decided.add(key)
            if isinstance(d, GiveUp):
                self.state[d.member] = "failed"
                self.judge(d)
            else:
                assert isinstance(d, Again)
                self.state[d.member] = "rests"
                self.until[d.member], self.reason[d.member] = d.at, d.why
                (self.alone.add if d.alone else self.alone.discard)(d.member)
                assert d.alone or d.member not in self.suspects
                assert d.memory is None or 100.0 < d.memory <= 400.0

    def judge(self, d):
        """Blame is fair: it failed by itself, as often as its policy says."""
        policy = self.policy(d.member)
        if isinstance(d.error, FunctionCrashedError):
            assert d.member[1] == POISON
            assert self.culprit[d.member] >= policy.crashes
        elif isinstance(d.error, NodeLostError):
            raise AssertionError("words were lost, but not so often")
        else:
            assert self.errors[d.member] >= 1

    # -------------------------------------------------------------------- events
    @rule(who=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(NODES))))
    def send(self, who):
        """Some that may run are sent to nodes, beside others if they may be."""
        for i, node in who:
            member, here = ("run", i), self.on(node)
            rested = self.until.get(member, inf) <= self.now
            state = self.state[member]
            if state != "free" and not (state == "rests" and rested):
                continue
            if here and not self.alone.isdisjoint({member, *here}):
                continue
            self.state[member], self.where[member] = "runs", node
            self.number[member] += 1

    def a_running(self, data, poison=False):
        running = [
            m for m, s in self.state.items()
            if s == "runs" and (m[1] == POISON) == poison
        ]  # fmt: skip
        return data.draw(st.sampled_from(running)) if running else None

    @rule(data=st.data())
    def deliver(self, data):
        member = self.a_running(data)
        if member is not None:
            self.state[member] = "done"
            self.enact(self.recovery.done(member, self.where[member], self.now))

    @rule(
        data=st.data(),
        kind=st.sampled_from(
            ["raised", "timeout", "exhausted", "undeliverable", "rescheduled"]
        ),
    )
    def fail(self, data, kind):
        member = self.a_running(data)
        if member is None:
            return
        self.errors[member] += 1
        resource = "memory" if kind == "exhausted" else ""
        fault = Fault(kind, ("builtins.Exception",), "no", resource, 500.0, None)
        told = self.tried(member)
        self.state[member] = "ended"
        self.enact(self.recovery.failed(told, fault, self.now))
        self.old.append(lambda: self.recovery.failed(told, fault, self.now))

    @rule(
        node=st.sampled_from(NODES),
        exit=st.sampled_from(
            [KILLED, Exit(-15, 1), Exit(None, 1), Exit(0, 1, None, "", True)]
        ),
        order=st.sampled_from(["word first", "word last", "no word", "late word"]),
    )
    def lose(self, node, exit, order):
        """A node dies of something outside; nobody on it is to blame."""
        self.bury(node, exit, order)

    @rule(data=st.data(), order=st.sampled_from(["word first", "word last"]))
    def crash(self, data, order):
        """The poison runs, and takes its node with it."""
        member = self.a_running(data, poison=True)
        if member is not None:
            self.culprit[member] += 1
            self.bury(self.where[member], SEGV, order)

    def bury(self, node, exit, order):
        worker, self.life = self.worker[node], self.life + 1
        who = [self.tried(m) for m in self.on(node)]
        self.worker[node] = f"{node}-{self.life}"
        for t in who:
            self.state[t.member] = "ended"
            if exit.cause == "crash":
                self.suspects.add(t.member)
        if order == "word first":
            self.enact(self.recovery.learned(worker, exit, self.now))
        self.enact(self.recovery.died(worker, node, who, self.now, is_explained=True))
        if order == "word last":
            self.enact(self.recovery.learned(worker, exit, self.now))
        self.old.append(lambda: self.recovery.died(worker, node, who, self.now))
        self.old.append(lambda: self.recovery.learned(worker, exit, self.now))

    @rule(node=st.sampled_from(NODES))
    def remove(self, node):
        """A node is removed on purpose."""
        worker, self.life = self.worker[node], self.life + 1
        who = [self.tried(m) for m in self.on(node)]
        self.worker[node] = f"{node}-{self.life}"
        for t in who:
            self.state[t.member] = "ended"
        self.enact(self.recovery.died(worker, node, who, self.now, why="cut off"))
        self.old.append(lambda: self.recovery.learned(worker, SEGV, self.now))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def repeat(self, data):
        """A message comes once more, or late."""
        self.enact(data.draw(st.sampled_from(self.old))())

    @rule(seconds=st.floats(0.0, 2.0))
    def pass_time(self, seconds):
        self.now += seconds
        self.enact(self.recovery.passed(self.now))

    # ----------------------------------------------------------------- invariants
    @invariant()
    def every_function_is_accounted_for(self):
        for member, state in self.state.items():
            assert state != "ended", f"{member} was forgotten"
            if state in ("rests", "held"):
                assert self.reason[member]
                assert self.until[member] < inf
            if state == "held":
                assert self.until[member] >= self.now - EVIDENCE

    @invariant()
    def nobody_is_charged_with_the_crashes_of_another(self):
        for member, case in self.recovery.cases.items():
            count = case.charged.get("crash", 0)
            assert count <= self.culprit[member]
            assert case.charged.get("errors", 0) <= self.errors[member]
            assert case.charged.get("memory", 0) <= self.errors[member]

    @invariant()
    def nothing_is_held_for_longer_than_word_may_take(self):
        late = [m for m, s in self.state.items() if s == "held"]
        assert all(self.until[m] > self.now - 1e-9 for m in late)

    @invariant()
    def who_runs_alone_is_alone(self):
        for node in NODES:
            here = self.on(node)
            assert len(here) < 2 or not any(m in self.alone for m in here)

    @invariant()
    def nobody_is_remembered_who_has_ended(self):
        for member, state in self.state.items():
            if state in ("done", "failed"):
                assert member not in self.recovery.cases


Recoveries.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRecoveries = Recoveries.TestCase
