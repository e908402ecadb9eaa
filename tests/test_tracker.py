"""Laws of trackers: claims are whole, exact and never more than there is; the live one
is told what can be used, and stops nothing for ever.
"""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from handout_dask import Cost, CostError, ResourceTracker, StaticTracker
from handout_dask.tracker import LiveTracker


def tracker(**nodes):
    made = StaticTracker()
    for name, capabilities in nodes.items():
        made.register(name, capabilities)
    return made


def claimed(tracker):
    return {
        node: {name: held for name, (_, held, _) in rows.items() if held}
        for node, rows in tracker.snapshot().items()
    }


def spill(tracker, claim, req):
    """The first node that grants the request, in order of registration."""
    return next((n for n in tracker.snapshot() if tracker.request(claim, n, req)), None)


def test_the_static_tracker_keeps_the_protocol():
    assert isinstance(StaticTracker(), ResourceTracker)


def test_a_registered_node_shows_what_it_has():
    t = tracker(n0={"cpu": 4, "memory": "2 GB", "ssd": True, "camera": 1})
    assert t.snapshot() == {
        "n0": {
            "camera": (1.0, 0.0, None),
            "cpu": (4.0, 0.0, None),
            "memory": (2000.0, 0.0, None),
        }
    }


@pytest.mark.parametrize(
    ("req", "free"),
    [
        ({}, True),
        ({"cpu": 4, "memory": 2000}, True),
        ({"cpu": 4.1}, False),
        ({"cpu": 1, "memory": 2001}, False),
        ({"gpus": 1}, False),
        ({"gpu": 1}, False),
        ({"gpu": 0}, True),
        ({"camera": "1"}, True),
        ({"ssd": True}, True),
        ({"camera": True}, True),
        ({"nvme": True}, False),
        ({"nvme": False}, True),
        ({"has_cuda_requirement": True}, False),
        ({"has_cuda_requirement": False}, True),
        ({"memory": "2 GB"}, True),
        ({"memory": "2.1 GB"}, False),
        ({"cpu": 1, "cpu_time": 500, "gpu_time": 5, "output_size": 9}, True),
        (Cost(cpu=1, cpu_time=500, output_size={0: 1}, ssd=True), True),
    ],
)
def test_available_is_whether_all_of_a_request_is_free(req, free):
    t = tracker(n0={"cpu": 4, "memory": 2000, "camera": 1, "ssd": True})
    assert t.available("n0", req) is free
    assert t.request("a", "n0", req) is free
    assert t.available("gone", req) is False
    assert t.request("a", "gone", req) is False


def test_absent_cpu_and_memory_are_unlimited():
    t = tracker(n0={})
    assert t.request("a", "n0", {"cpu": 1e6, "memory": 1e9}) is True
    assert t.snapshot() == {
        "n0": {"cpu": (math.inf, 1e6, None), "memory": (math.inf, 1e9, None)}
    }


def test_cuda_is_a_capability():
    t = tracker(n0={"has_cuda": True})
    assert t.request("a", "n0", Cost(has_cuda_requirement=True)) is True
    assert t.snapshot() == {"n0": {"gpus": (1.0, 1.0, None)}}
    assert t.available("n0", {"has_cuda_requirement": True}) is True
    assert t.available("n0", {"gpus": 0.1}) is False


def test_claims_are_released_in_parts_or_whole():
    t = tracker(n0={"cpu": 4, "memory": 2000})
    assert t.request("a", "n0", {"cpu": 2, "memory": 1500}) is True
    assert t.request("b", "n0", {"cpu": 1}) is True
    t.release("a", {"memory": 1000, "cpu": 1})
    assert claimed(t) == {"n0": {"cpu": 2.0, "memory": 500.0}}
    t.release("a", {"memory": 9999})
    assert claimed(t) == {"n0": {"cpu": 2.0}}
    t.release("a")
    t.release("a")
    t.release("unknown")
    assert claimed(t) == {"n0": {"cpu": 1.0}}


def test_a_refused_request_changes_nothing():
    t = tracker(n0={"cpu": 4, "memory": 2000})
    t.request("a", "n0", {"cpu": 3})
    before = t.snapshot()
    assert t.request("b", "n0", {"memory": 100, "cpu": 2}) is False
    assert t.request("b", "n0", {"cpu": 1, "gpu": 1}) is False
    assert t.snapshot() == before
    t.release("b")
    assert t.snapshot() == before


def test_requests_spill_to_the_next_node_when_the_first_is_full():
    t = tracker(a={"compute": 2}, b={"compute": 2})
    got = [spill(t, k, {"compute": 1}) for k in range(5)]
    assert got == ["a", "a", "b", "b", None]
    t.release(1)
    assert spill(t, 5, {"compute": 1}) == "a"


def test_one_claim_may_span_nodes_and_is_released_at_once():
    t = tracker(a={"compute": 2}, b={"compute": 2})
    assert [spill(t, "run", {"compute": 1}) for _ in range(4)] == ["a", "a", "b", "b"]
    assert claimed(t) == {"a": {"compute": 2.0}, "b": {"compute": 2.0}}
    t.release("run", {"compute": 3})
    assert claimed(t) == {"a": {}, "b": {"compute": 1.0}}
    t.release("run")
    assert claimed(t) == {"a": {}, "b": {}}


def test_claims_of_equal_ids_are_one():
    t = tracker(n0={"cpu": 3})
    t.request(1, "n0", {"cpu": 1}), t.request(1.0, "n0", {"cpu": 1})
    t.release(True)
    assert claimed(t) == {"n0": {}}


def test_registering_again_changes_capacity_and_keeps_claims():
    t = tracker(n0={"cpu": 4})
    t.request("a", "n0", {"cpu": 3})
    t.register("n0", {"cpu": 2, "camera": 1})
    assert t.snapshot() == {"n0": {"camera": (1.0, 0.0, None), "cpu": (2.0, 3.0, None)}}
    assert t.available("n0", {"cpu": 0.5}) is False
    assert t.available("n0", {"camera": 1}) is True


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), [1], "x", "1 XB"])
def test_nonsense_is_an_error_and_takes_nothing(bad):
    t = tracker(n0={"cpu": 4, "memory": 100})
    t.request("a", "n0", {"cpu": 2})
    before = t.snapshot()
    for call in (
        lambda: t.available("n0", {"cpu": bad}),
        lambda: t.request("b", "n0", {"memory": 5, "cpu": bad}),
        lambda: t.release("a", {"cpu": bad}),
        lambda: t.register("n1", {"cpu": bad}),
    ):
        with pytest.raises(CostError):
            call()
    assert t.snapshot() == before


def test_a_claim_that_is_not_hashable_takes_nothing():
    t = tracker(n0={"cpu": 4})
    with pytest.raises(TypeError):
        t.request([], "n0", {"cpu": 1})
    assert claimed(t) == {"n0": {}}


def test_sums_of_fractions_do_not_drift():
    t = tracker(n0={"cpu": 1, "big": 1e15})
    for k in range(10):
        assert t.request(k, "n0", {"cpu": 0.1, "big": 1e14 / 3}) is True
    for k in range(10):
        assert t.available("n0", {"cpu": 0.1}) is False
        t.release(k)
        assert t.request(("again", k), "n0", {"cpu": 0.1}) is True
    for k in range(10):
        t.release(("again", k))
    assert claimed(t) == {"n0": {}}


def test_devices_are_whole_where_there_are_more():
    t = tracker(n0={"gpus": 2, "gpu_memory": 40}, n1={"gpus": 1, "gpu_memory": 40})
    half = {"gpus": 0.5, "gpu_memory": 25}
    assert [t.request(("n0", k), "n0", half) for k in range(3)] == [True, True, False]
    assert [t.request(("n1", k), "n1", half) for k in range(2)] == [True, False]
    t.release(("n0", 0)), t.release(("n0", 1))
    assert t.available("n0", {"gpus": 1, "gpu_memory": 41}) is False
    assert t.request("both", "n0", {"gpus": 2, "gpu_memory": 40}) is True
    assert t.snapshot()["n0"] == {
        "gpu_memory": (80.0, 80.0, None),
        "gpus": (2.0, 2.0, None),
    }


AMOUNT = st.sampled_from([0, 0.1, 0.2, 0.3, 1, 1 / 3, 2.5])
ROOM = {"a": {"cpu": 1, "memory": 3.1}, "b": {"cpu": 2, "memory": 1, "camera": 0.7}}


class Claims(RuleBasedStateMachine):
    """The tracker beside plain lists of who holds what."""

    def __init__(self):
        super().__init__()
        self.tracker = tracker(**ROOM)
        self.held = []  # (claim, node, {resource: amount})

    def total(self, node, name):
        return math.fsum(r.get(name, 0) for _, n, r in self.held if n == node)

    @rule(
        claim=st.integers(0, 3),
        node=st.sampled_from(["a", "b", "gone"]),
        req=st.dictionaries(st.sampled_from(["cpu", "memory", "camera"]), AMOUNT),
    )
    def request(self, claim, node, req):
        room = ROOM.get(node, {})
        fits = node in ROOM and all(
            self.total(node, name) + amount <= room.get(name, 0) + 1e-9
            for name, amount in req.items()
        )
        assert self.tracker.available(node, req) is fits
        assert self.tracker.request(claim, node, req) is fits
        if fits:
            self.held.append((claim, node, dict(req)))

    @rule(claim=st.integers(0, 3))
    def release(self, claim):
        self.tracker.release(claim)
        self.held = [row for row in self.held if row[0] != claim]

    @rule(claim=st.integers(0, 3), name=st.sampled_from(["cpu", "camera"]), part=AMOUNT)
    def release_part(self, claim, name, part):
        self.tracker.release(claim, {name: part})
        for owner, _, req in self.held:
            if owner == claim:
                back = min(part, req.get(name, 0))
                req[name] = req.get(name, 0) - back
                part -= back

    @invariant()
    def never_more_than_there_is(self):
        for node, rows in self.tracker.snapshot().items():
            for name, (capacity, held, _) in rows.items():
                assert held <= capacity * (1 + 1e-9)
                assert held == pytest.approx(self.total(node, name), abs=1e-9)

    def teardown(self):
        for claim in range(4):
            self.tracker.release(claim)
        assert claimed(self.tracker) == {"a": {}, "b": {}}


Claims.TestCase.settings = settings(
    deadline=None, max_examples=40, stateful_step_count=25
)
test_claims_agree_with_plain_lists = Claims.TestCase


# ------------------------------------------------------------------ the live one
def live(**nodes):
    made = LiveTracker()
    for name, capabilities in nodes.items():
        made.register(name, capabilities)
    return made


def test_the_live_tracker_shows_what_it_was_told():
    t = live(n0={"cpu": 4, "memory": 2000, "camera": 1}, n1={})
    assert isinstance(t, ResourceTracker)
    t.observe("n0", {"cpu": 1.5, "memory": 300.0, "disk_io": 7.0}, {"memory": 800.0})
    t.request("a", "n0", {"memory": 500})
    assert t.snapshot() == {
        "n0": {
            "camera": (1.0, 0.0, None),
            "cpu": (4.0, 0.0, 1.5),
            "memory": (2000.0, 500.0, 300.0),
        },
        "n1": {},
    }
    assert t.limits() == {"n0": {"memory": 800.0}}
    t.observe("n0", {})
    assert t.snapshot()["n0"]["memory"] == (2000.0, 500.0, None)
    assert t.limits() == {}


def test_who_holds_what_is_told_in_the_order_of_requests():
    t = live(n0={"cpu": 4, "memory": 2000}, n1={})
    t.request("b", "n0", {"memory": 500, "cpu": 0.1})
    t.request("a", "n0", {"cpu": 1})
    t.request("b", "n1", {"cpu": 2})
    t.release("a")
    t.request("c", "n0", {"cpu": 0.1})
    assert t.holders() == {
        "n0": [("b", {"memory": 500.0, "cpu": 0.1}), ("c", {"cpu": 0.1})],
        "n1": [("b", {"cpu": 2.0})],
    }


def test_others_leave_room_for_less_beside_what_is_held():
    t = live(n0={"memory": 2000})
    t.request("a", "n0", {"memory": 600})
    t.observe("n0", {}, {"memory": 1000.0})
    assert t.request("b", "n0", {"memory": 500}) is False
    assert t.request("b", "n0", {"memory": 400}) is True
    t.observe("n0", {}, {"memory": 100.0})
    assert t.limits() == {"n0": {"memory": 1000.0}}  # which is held
    assert t.available("n0", {"memory": 1}) is False


def test_what_fits_the_capacity_is_granted_where_nobody_holds_any():
    t = live(n0={"cpu": 4, "memory": 2000})
    t.observe("n0", {}, {"memory": 0.0, "cpu": 0.0})
    assert t.request("a", "n0", {"cpu": 4}) is True
    assert t.request("b", "n0", {"memory": 2000}) is True
    assert t.available("n0", {"cpu": 0.1}) is False
    t.release("a"), t.release("b")
    assert t.available("n0", {"memory": 2001}) is False


def test_who_was_let_in_may_take_more_up_to_the_capacity():
    t = live(n0={"cpu": 2, "memory": 2000})
    t.request("a", "n0", {"cpu": 1, "memory": 100})
    t.request("b", "n0", {"memory": 100})
    t.observe("n0", {}, {"cpu": 1.0})
    assert t.request("c", "n0", {"cpu": 1}) is False
    assert t.request("b", "n0", {"cpu": 1}) is True
    assert t.request("b", "n0", {"cpu": 1}) is False


NARROW = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.floats(0, 4))


class Observed(RuleBasedStateMachine):
    """The live tracker beside a static one."""

    def __init__(self):
        super().__init__()
        self.live, self.static = live(**ROOM), tracker(**ROOM)
        self.usable = {"a": {}, "b": {}}

    @rule(node=st.sampled_from(["a", "b"]), usable=NARROW)
    def observe(self, node, usable):
        self.live.observe(node, {"memory": 1.0}, usable)
        self.usable[node] = usable

    @rule(
        claim=st.integers(0, 3),
        node=st.sampled_from(["a", "b"]),
        req=st.dictionaries(st.sampled_from(["cpu", "memory", "camera"]), AMOUNT),
    )
    def request(self, claim, node, req):
        held = {r: row[1] for r, row in self.static.snapshot()[node].items()}
        fits = self.static.available(node, req)
        granted = self.live.request(claim, node, req)
        assert fits or not granted
        if fits and not granted:  # for a true reason
            assert any(
                held[r] and held[r] + req.get(r, 0) > amount
                for r, amount in self.usable[node].items()
            )
        if granted:
            assert self.static.request(claim, node, req)

    @rule(claim=st.integers(0, 3))
    def release(self, claim):
        self.live.release(claim)
        self.static.release(claim)

    @invariant()
    def they_agree_on_claims(self):
        assert claimed(self.live) == claimed(self.static)

    @invariant()
    def limits_are_within_what_is_held_and_what_is_declared(self):
        rows = self.static.snapshot()
        for node, limits in self.live.limits().items():
            for name, amount in limits.items():
                capacity, held, _ = rows[node][name]
                assert held <= amount < capacity

    def teardown(self):
        for claim in range(4):
            self.live.release(claim)
        assert claimed(self.live) == {"a": {}, "b": {}}
        for node, room in ROOM.items():
            assert self.live.available(node, room)


Observed.TestCase.settings = Claims.TestCase.settings
test_what_is_observed_only_makes_claims_wait = Observed.TestCase
