"""Laws of costs: units, kinds of entries, and what is refused."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask import Cost, CostError, Function, Node
from handout_dask.costs import NO_COST, UNITS, parse_quantity


def parts(cost):
    """All that a Cost holds."""
    return {
        "cpu_time": cost.cpu_time,
        "gpu_time": cost.gpu_time,
        "output_size": cost.output_size,
        "demand": dict(cost.demand),
        "capabilities": cost.capabilities,
    }


NOTHING = {
    "cpu_time": None,
    "gpu_time": None,
    "output_size": None,
    "demand": {},
    "capabilities": (),
}


@pytest.mark.parametrize(
    ("entries", "held"),
    [
        ({}, {}),
        ({"cpu_time": 20}, {"cpu_time": 20.0}),
        ({"gpu_time": 20}, {"gpu_time": 20.0, "demand": {"gpus": 1.0}}),
        ({"gpu_time": 0}, {"gpu_time": 0.0, "demand": {"gpus": 1.0}}),
        ({"output_size": 3}, {"output_size": 3.0}),
        ({"output_size": {0: 1, "b": "2 GB"}}, {"output_size": {0: 1.0, "b": 2000.0}}),
        ({"memory": 500}, {"demand": {"memory": 500.0}}),
        ({"cpu": 2}, {"demand": {"cpu": 2.0}}),
        ({"cpu": 0}, {"demand": {"cpu": 0.0}}),
        ({"gpus": 2}, {"demand": {"gpus": 2.0}}),
        ({"gpus": 0.25}, {"demand": {"gpus": 0.25}}),
        ({"gpus": 0}, {}),
        ({"gpu_memory": 8}, {"demand": {"gpu_memory": 8.0, "gpus": 1.0}}),
        ({"gpu_memory": 0}, {}),
        (
            {"gpu_memory": 8, "gpus": 0.5},
            {"demand": {"gpu_memory": 8.0, "gpus": 0.5}},
        ),
        ({"disk_io": 5}, {"demand": {"disk_io": 5.0}}),
        ({"network_io": 5}, {"demand": {"network_io": 5.0}}),
        ({"power": 5}, {"demand": {"power": 5.0}}),
        (
            {"has_cuda_requirement": True},
            {"demand": {"gpus": 1.0}, "capabilities": ("has_cuda",)},
        ),
        ({"has_cuda_requirement": False}, {}),
        ({"camera": 2}, {"demand": {"camera": 2.0}}),
        ({"camera": 0}, {}),
        ({"camera": True}, {"capabilities": ("camera",)}),
        ({"camera": False}, {}),
        ({"b": True, "a": np.True_}, {"capabilities": ("a", "b")}),
        ({"memory": None, "cpu_time": None, "camera": None}, {}),
    ],
)
def test_entries_are_estimates_demands_or_capabilities(entries, held):
    assert parts(Cost(entries)) == {**NOTHING, **held}


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("cpu_time", "1.5 s", 1500.0),
        ("cpu_time", "1.5s", 1500.0),
        ("cpu_time", "250 us", 0.25),
        ("cpu_time", "3 ms", 3.0),
        ("cpu_time", "2 min", 120_000.0),
        ("gpu_time", "1 h", 3_600_000.0),
        ("gpu_time", "7", 7.0),
        ("output_size", "1e3 kB", 1.0),
        ("output_size", "1000000 B", 1.0),
        ("memory", "4 GiB", 4294.967296),
        ("memory", "1 KiB", 0.001024),
        ("memory", "1 MiB", 1.048576),
        ("memory", "1 TiB", 1_099_511.627776),
        ("memory", "4 GB", 4000.0),
        ("memory", " .5  TB ", 500_000.0),
        ("gpu_memory", "2 MB", 2.0),
        ("disk_io", "1 GB/s", 1000.0),
        ("network_io", "10 MiB/s", 10.48576),
        ("power", "1.2 kW", 1200.0),
        ("power", "500 mW", 0.5),
        ("cpu", "2", 2.0),
        ("camera", "3", 3.0),
        ("memory", np.float32(2.5), 2.5),
        ("memory", np.int64(7), 7.0),
        ("memory", Fraction(1, 4), 0.25),
    ],
)
def test_units_are_those_of_the_table(key, value, number):
    assert Cost({key: value})[key] == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("memory", -1, "memory=-1 must be finite and not negative"),
        ("memory", "-1 GB", "memory='-1 GB' must be finite and not negative"),
        ("memory", float("nan"), "memory=nan must be finite and not negative"),
        ("memory", np.float64("inf"), "must be finite and not negative"),
        ("memory", 10**400, "must be finite and not negative"),
        ("memory", "1e400", "memory='1e400' must be finite and not negative"),
        ("cpu_time", float("inf"), "cpu_time=inf must be finite and not negative"),
        ("output_size", -0.5, "output_size=-0.5 must be finite and not negative"),
        ("output_size", {0: -1}, "output_size[0]=-1 must be finite and not negative"),
        ("camera", -1, "camera=-1 must be finite and not negative"),
        ("memory", True, "memory=True must be a number, not a bool"),
        ("gpus", np.True_, "must be a number, not a bool"),
        ("cpu_time", False, "cpu_time=False must be a number, not a bool"),
        ("memory", [1], "memory=[1] must be a number or a text such as '4 GiB'"),
        ("camera", (1,), "camera=(1,) must be a number or a text"),
        ("camera", 1j, "camera=1j must be a number or a text"),
        ("memory", "", "memory='' is not a number with a unit"),
        ("memory", "lots", "memory='lots' is not a number with a unit"),
        ("memory", "nan", "memory='nan' is not a number with a unit"),
        (
            "memory",
            "4 gib",
            "memory='4 gib' has unknown unit 'gib'; known: B, kB, KB, MB, GB, TB, "
            "KiB, MiB, GiB, TiB",
        ),
        ("cpu_time", "4 GB", "cpu_time='4 GB' has unknown unit 'GB'; known: us, ms, s"),
        (
            "camera",
            "2 GB",
            "camera='2 GB' has unknown unit 'GB'; known: none: give a plain number",
        ),
        ("has_cuda_requirement", 1, "has_cuda_requirement=1 must be True or False"),
        ("has_cuda_requirement", "yes", "must be True or False"),
        ("gpus", 1.5, "gpus=1.5 must be whole, or below 1"),
        ("slots", 1, "'slots' is counted by the library; use 'cpu'"),
        ("code", 5, "code=5 is not callable"),
        (5, 1, "cost key 5 must be a text"),
        ("", 1, "cost key '' must be a text"),
    ],
)
def test_nonsense_is_an_error_that_names_function_and_key(key, value, text):
    for _ in range(2):  # the second is not answered from a cache
        with pytest.raises(CostError) as caught:
            Function("blur", cost={key: value})
        assert str(caught.value).startswith("function 'blur': ")
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "more", [{"gpu_time": 1}, {"gpu_memory": 1}, {"has_cuda_requirement": True}]
)
def test_a_gpu_function_without_devices_is_an_error(more):
    with pytest.raises(CostError, match=r"^cost: gpus=0 contradicts its other GPU ent"):
        Cost({"gpus": 0, **more})


@pytest.mark.parametrize("bad", [5, "memory", [("memory", 1)], {"memory"}])
def test_a_cost_must_be_a_mapping(bad):
    with pytest.raises(CostError, match=r"must be a mapping such as \{'memory': 100\}"):
        Cost(bad)
    with pytest.raises(CostError, match=r"^function 'f': cost must be a mapping"):
        Function("f", cost=[bad])


def test_number_and_bool_of_a_name_are_never_confused():
    costs = [Cost({"x": 1}), Cost({"x": True}), Cost({"x": 1.0}), Cost({"x": np.True_})]
    assert [(c.demand, c.capabilities) for c in costs] == [
        ((("x", 1.0),), ()),
        ((), ("x",)),
        ((("x", 1.0),), ()),
        ((), ("x",)),
    ]
    assert [costs[0] == c for c in costs] == [True, False, True, False]
    assert [costs[1].key == c.key for c in costs] == [False, True, False, True]


def test_code_that_compares_equal_is_not_confused():
    class Scale:
        def __init__(self, by):
            self.by = by

        def __call__(self):
            return self.by

        def __eq__(self, other):
            return self.by == other.by

        def __hash__(self):
            return hash(self.by)

    assert [repr(Cost(code=Scale(by)).code()) for by in (1, True, 1.0)] == [
        "1",
        "True",
        "1.0",
    ]


def test_a_cost_is_a_mapping():
    cost = Cost({"memory": "1 GB", "cpu_time": 2}, camera=1, has_cuda_requirement=True)
    flat = {
        "cpu_time": 2.0,
        "camera": 1.0,
        "gpus": 1.0,
        "memory": 1000.0,
        "has_cuda_requirement": True,
    }
    assert dict(cost) == flat
    assert (len(cost), "camera" in cost, cost.get("power")) == (5, True, None)
    assert cost == flat
    assert cost == Cost(flat)
    assert cost != Cost()
    assert repr(Cost(cpu=2)) == "Cost({'cpu': 2.0})"


def test_entries_of_a_cost_may_be_replaced_and_its_code_stays():
    cost = Cost({"memory": 5, "code": abs}, cpu=1)
    assert parts(Cost(cost, memory=7)) == parts(Cost(memory=7, cpu=1))
    assert Cost(cost, memory=7).code is abs
    assert Cost(cost, code=min).code is min
    assert Cost(cost) is cost


def test_a_cost_is_picklable_and_not_hashable():
    cost = Cost(memory=5, output_size={0: 1}, x=True, gpu_time=2, code=abs)
    copy = pickle.loads(pickle.dumps(cost))
    assert (parts(copy), copy.code, copy) == (parts(cost), abs, cost)
    with pytest.raises(TypeError, match="unhashable"):
        hash(cost)


def test_a_parsed_cost_does_not_follow_changes_of_its_map():
    sizes = {0: 1}
    entries = {"output_size": sizes, "memory": 5}
    cost = Cost(entries)
    sizes[0] = entries["memory"] = 9
    assert dict(cost) == {"output_size": {0: 1.0}, "memory": 5.0}


def test_no_cost_is_empty():
    assert parts(NO_COST) == NOTHING


def test_cost_and_capability_share_units():
    node = Node("n", {"memory": "4 GiB", "disk_io": "1 GB/s", "camera": "2"})
    assert node.capabilities == {
        "memory": 4294.967296,
        "disk_io": 1000.0,
        "camera": 2.0,
    }


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(UNITS)),
    st.floats(0, 1e9, allow_nan=False),
    st.data(),
)
def test_a_text_with_a_unit_is_the_number_in_it(key, number, data):
    unit = data.draw(st.sampled_from(["", *UNITS[key]]))
    expected = number * UNITS[key].get(unit, 1.0)
    assert parse_quantity("x", key, f"{number!r} {unit}") == expected
    assert parse_quantity("x", key, number) == number


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from([*UNITS, "camera", "ssd", "has_cuda_requirement"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-2, 5),
            st.floats(),
            st.text(max_size=3),
        ),
    )
)
def test_any_map_is_parsed_or_refused(entries):
    try:
        cost = Cost(entries)
    except CostError:
        return
    again = Cost(dict(cost))
    assert (parts(again), again.key) == (parts(cost), cost.key)
    assert all(amount >= 0 for _, amount in cost.demand)
