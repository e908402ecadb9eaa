"""Which function of which live run a key is; without a cluster."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handout_dask.runtime.keys import Keys
from handout_dask.runtime.records import LiveRun


def lowered(token, names=("f", "g", "f")):
    """A run of a Graph: the key of function i is (name and token, i)."""
    spec = SimpleNamespace(
        token=token, prefix=[f"{name}-{token}" for name in names],
        cut_prefix=f"cut-{token}", node=["a"] * len(names),
        able=[["a"]] * len(names),
    )  # fmt: skip
    return LiveRun(spec, SimpleNamespace(since=0.0), "owner")


def adopted(token, keys):
    """A run of tasks of Dask's own, by whatever keys they have."""
    run = lowered(token, ["x"] * len(keys))
    run.keys = list(keys)
    return run


@pytest.fixture
def keys():
    return Keys()


def test_functions_are_found_by_their_keys(keys):
    one, two = lowered("1"), lowered("2")
    keys.add(one)
    keys.add(two)
    for run in (one, two):
        assert [keys.find(run.key(i)) for i in range(3)] == [(run, i) for i in range(3)]
        assert [keys.run_of(run.key(i)) for i in range(3)] == [run] * 3


def test_elements_belong_to_their_run_but_are_no_functions(keys):
    run = lowered("1")
    keys.add(run)
    cut = "cut-1", 7
    assert (keys.find(cut), keys.run_of(cut), keys.is_cut(cut)) == (None, run, True)
    assert not keys.is_cut(run.key(0))


@pytest.mark.parametrize("key", ["f-1", ("f-2", 0), ("f", 0), 1, b"f-1", ("cut", 1)])
def test_other_keys_are_nobodys(keys, key):
    keys.add(lowered("1"))
    assert (keys.find(key), keys.run_of(key), keys.is_cut(key)) == (None, None, False)


def test_adopted_tasks_keep_their_keys(keys):
    run = adopted("1", ["sum-1", ("x", 0, 1), 5])
    keys.add(run)
    assert [keys.find(key) for key in run.keys] == [(run, 0), (run, 1), (run, 2)]
    assert keys.run_of(("x", 0, 1)) is run
    assert keys.find(("x-1", 0)) is None  # no key of a lowered graph stands for it
    assert not keys.is_cut(("cut-1", 0))


def test_a_task_that_is_forgotten_leaves_its_key_to_the_next(keys):
    one, two = adopted("1", ["a", "b"]), adopted("2", ["a"])
    keys.add(one)
    keys.forget("a")
    keys.forget("never there")
    assert (keys.find("a"), keys.find("b")) == (None, (one, 1))
    keys.add(two)
    keys.drop(one)  # the key is the other's by now
    assert (keys.find("a"), keys.find("b")) == ((two, 0), None)


def test_what_to_look_for_among_all_keys(keys):
    assert keys.of(lowered("1")) == {"f-1", "g-1", "cut-1"}
    assert keys.of(adopted("2", ["a", ("x", 0)])) == {"a", ("x", 0)}


def test_dropping_a_run_twice_or_one_that_is_not_known_is_harmless(keys):
    one = lowered("1")
    keys.drop(one)
    keys.add(one)
    keys.drop(one)
    keys.drop(one)
    assert len(keys) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_exactly_the_keys_of_live_runs_are_known(steps):
    keys, live = Keys(), set()
    runs = [lowered(str(k)) for k in range(3)]
    runs += [adopted(str(k), [f"a{k}", ("x", k)]) for k in range(3, 6)]
    for k, is_added in steps:
        (keys.add if is_added else keys.drop)(runs[k])
        (live.add if is_added else live.discard)(k)
    for k, run in enumerate(runs):
        count = len(run.keys or run.spec.prefix)
        found = [keys.find(run.key(i)) for i in range(count)]
        assert found == [(run, i) if k in live else None for i in range(count)]
        assert keys.is_cut((f"cut-{k}", 0)) == (k in live and k < 3)
    entries = sum(3 if k < 3 else 2 for k in live)  # two names and cuts, or two keys
    assert len(keys) == entries
