"""Laws of what is learned: estimates from observations, and how slow nodes are."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask import Node
from handout_dask.history import History, kind_of
from handout_dask.slowness import FASTEST, Slowness

NOISE = 0.3


def draws(seed, sigma=NOISE):
    """Endless lognormal factors of mean 1."""
    rng = np.random.default_rng(seed)
    while True:
        yield math.exp(sigma * rng.standard_normal() - sigma**2 / 2)


def calm_nodes(seed, count=20):
    """Slowness that has seen a node "a" behave as believed."""
    nodes, noise = Slowness(), draws(seed)
    for _ in range(count):
        nodes.observe("a", next(noise))
    return nodes, noise


# ------------------------------------------------------------------------- nodes
def test_noisy_node_is_believed_to_be_as_declared():
    wrong, outside, seen = 0, 0, []
    for seed in range(30):
        nodes, noise = Slowness(), draws(seed)
        for _ in range(100):
            for node in "abcd":
                nodes.observe(node, next(noise))
                seen.append(nodes.factor(node))
    seen = np.array(seen)
    wrong, outside = np.mean(seen > 1.3), np.mean(abs(seen - 1) > 0.15)
    assert wrong < 1e-3
    assert outside < 2e-3
    assert np.mean(seen) == pytest.approx(1.0, abs=0.01)
    assert np.median(seen) == pytest.approx(1.0, abs=0.01)


def functions_until(nodes, holds, ratios, most=60):
    for count in range(most):
        if holds(nodes.factor("a")):
            return count
        nodes.observe("a", next(ratios))
    return most


def test_node_that_becomes_four_times_slower_is_known_after_two_or_three_functions():
    taken, after = [], []
    for seed in range(200):
        nodes, noise = calm_nodes(seed)
        slow = (4 * x for x in noise)
        taken.append(functions_until(nodes, lambda f: f > 2.5, slow))
        for _ in range(10):
            nodes.observe("a", next(slow))
        after.append(nodes.factor("a"))
    assert np.mean(np.array(taken) < 2) < 0.02
    assert np.mean(np.array(taken) <= 3) > 0.85
    assert np.median(after) == pytest.approx(4.0, rel=0.05)


def test_node_that_recovers_is_as_believed_again_after_a_few_functions():
    taken, after = [], []
    for seed in range(200):
        nodes, noise = calm_nodes(seed)
        for _ in range(12):
            nodes.observe("a", 4 * next(noise))
        taken.append(functions_until(nodes, lambda f: f < 1.25, noise))
        for _ in range(10):
            nodes.observe("a", next(noise))
        after.append(nodes.factor("a"))
    assert np.mean(np.array(taken) <= 3) > 0.85
    assert np.mean(abs(np.array(after) - 1) < 0.15) > 0.9


def test_node_faster_than_believed_is_known_too():
    nodes, noise = calm_nodes(1)
    for _ in range(6):
        nodes.observe("a", next(noise) / 4)
    assert nodes.factor("a") == FASTEST  # the rest is for those of its names to learn


def test_one_function_far_off_changes_little():
    nodes, _ = calm_nodes(2)
    before = nodes.factor("a")
    nodes.observe("a", 100.0)
    assert before < nodes.factor("a") < 1.15
    nodes.observe("a", 1.0)
    nodes.observe("a", 1.0)
    assert nodes.factor("a") == pytest.approx(before, rel=0.05)


def test_few_observations_are_shrunk_towards_as_believed():
    nodes = Slowness()
    nodes.observe("a", 1.3)
    assert 1.0 < nodes.factor("a") < 1.05
    assert nodes.factor("b") == 1.0


def test_mildly_slow_node_is_learned_in_time():
    nodes, noise = calm_nodes(3)
    for _ in range(100):
        nodes.observe("a", 1.25 * next(noise))
    assert nodes.factor("a") == pytest.approx(1.25, abs=0.12)


def test_long_calm_does_not_make_a_node_slow_to_learn():
    found = []
    for seed in range(10):
        nodes, noise = calm_nodes(seed, 600)
        for _ in range(100):
            nodes.observe("a", 1.2 * next(noise))
        found.append(nodes.factor("a"))
    assert np.mean(found) == pytest.approx(1.2, abs=0.05)


def test_overdue_function_is_believed_before_it_ends():
    nodes, _ = calm_nodes(4)
    for ratio in (1.0, 1.5, 2.0):
        nodes.overdue("a", ratio)
        assert nodes.factor("a") < 1.1
    nodes.overdue("a", 3.5)
    assert nodes.factor("a") == 3.5
    nodes.overdue("a", 4.0)
    assert nodes.factor("a") == 4.0
    nodes.observe("a", 4.1)
    assert nodes.factor("a") == pytest.approx(4.1, rel=0.2)


def test_overdue_after_a_slow_function_is_believed_sooner():
    nodes, _ = calm_nodes(4)
    nodes.observe("a", 4.0)
    nodes.overdue("a", 2.8)
    assert nodes.factor("a") == 2.8


def test_overdue_is_no_more_believed_the_oftener_it_is_told():
    nodes, _ = calm_nodes(5)
    before = nodes.factor("a")
    for _ in range(100):
        nodes.overdue("a", 1.8)
    assert nodes.factor("a") == before


def test_overdue_function_among_others_in_time_does_not_make_its_node_slow():
    nodes, _ = calm_nodes(6)
    nodes.overdue("a", 4.0)
    assert nodes.factor("a") == 4.0
    nodes.observe("a", 1.0)  # of another slot
    nodes.overdue("a", 4.5)
    assert nodes.factor("a") < 1.1
    nodes.overdue("a", 9.0)  # but much longer is told again
    assert nodes.factor("a") == 9.0


def test_overdue_function_is_believed_again_when_others_end_late_too():
    nodes, _ = calm_nodes(6)
    nodes.overdue("a", 4.0)
    nodes.observe("a", 1.0)
    nodes.overdue("a", 1.5)  # of a third slot: contradicts nothing
    nodes.overdue("a", 4.5)
    assert nodes.factor("a") < 1.1
    nodes.observe("a", 4.6)
    nodes.overdue("a", 4.0)
    assert nodes.factor("a") == 4.0


def test_relaxed_node_is_forgotten_by_share():
    nodes, noise = calm_nodes(7)
    for _ in range(10):
        nodes.observe("a", 4 * next(noise))
    nodes.overdue("a", 20.0)
    assert nodes.factor("a") == 20.0
    nodes.relax("a", 0.5)
    assert nodes.factor("a") == pytest.approx(math.sqrt(20.0))
    nodes.relax("a")
    nodes.relax("never seen")
    assert nodes.factor("a") == 1.0


def test_spread_of_functions_is_learned_and_judges_what_is_far_off():
    calm, wild = Slowness(), Slowness()
    small, large = draws(8, 0.05), draws(8, 0.8)
    for _ in range(400):
        calm.observe("a", next(small))
        wild.observe("a", next(large))
    assert calm.noise == 0.1
    assert wild.noise == pytest.approx(0.8, rel=0.25)
    for _ in range(2):
        calm.observe("a", 2.2)
        wild.observe("a", 2.2)
    assert calm.factor("a") > 1.8
    assert wild.factor("a") < 1.5


def test_what_was_believed_in_doubt_tells_less():
    sure, unsure = Slowness(), Slowness()
    for _ in range(3):
        sure.observe("a", 3.0)
        unsure.observe("a", 3.0, doubt=1.0)
    assert sure.factor("a") > 2.5
    assert 1.0 < unsure.factor("a") < 1.1


@given(st.lists(st.tuples(st.booleans(), st.floats()), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_ratio_leaves_a_factor_that_is_a_number_above_0(told):
    nodes = Slowness()
    for ended, ratio in told:
        (nodes.observe if ended else nodes.overdue)("a", ratio)
        assert 0.0 < nodes.factor("a") < math.inf
        assert 0.15 <= nodes.noise <= 1.0


def test_nodes_share_the_spread_and_nothing_else():
    nodes, _ = calm_nodes(9)
    before = nodes.factor("a")
    for _ in range(5):
        nodes.observe("b", 5.0)
    assert nodes.factor("a") == before
    assert nodes.factor("b") > 3.5


# ------------------------------------------------------------------------- names
def test_unknown_is_as_declared():
    history = History()
    assert history.factor("f", "k") == 1.0
    assert history.seconds("f", "f-1", "k") is None
    assert history.nbytes("f", "f-1") is None
    assert history.memory("f", "f-1") is None
    assert history.node_factor("n") == 1.0


def test_factor_is_unbiased_under_noise_of_mean_one():
    found = []
    for seed in range(100):
        history, noise = History(), draws(seed)
        for k in range(60):
            history.observe("f", str(k), "k", 2.0 * next(noise), declared=2.0)
        found.append(history.factor("f", "k"))
    assert np.mean(found) == pytest.approx(1.0, abs=0.015)
    assert max(abs(np.array(found) - 1)) < 0.25


def test_factor_of_few_observations_is_shrunk_and_of_many_is_not():
    history, seen = History(), []
    for k in range(60):
        history.observe("f", str(k), "k", 8.0, declared=1.0)
        seen.append(history.factor("f", "k"))
    assert 1.5 < seen[0] < 5.0
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(8.0, rel=0.02)


def test_recent_observations_weigh_more():
    history = History()
    for k in range(200):
        history.observe("f", str(k), "k", 1.0, declared=1.0)
    for k in range(60):
        history.observe("f", str(k), "k", 3.0, declared=1.0)
    assert history.factor("f", "k") == pytest.approx(3.0, rel=0.15)


def test_kind_that_differs_is_told_apart_and_one_unseen_is_like_the_rest():
    history = History()
    for k in range(60):
        history.observe("f", str(k), "cpu", 1.0, declared=1.0)
        history.observe("f", str(k), "old", 3.0, declared=1.0)
    assert history.factor("f", "cpu") == pytest.approx(1.0, rel=0.1)
    assert history.factor("f", "old") == pytest.approx(3.0, rel=0.1)
    between = history.factor("f")
    assert 1.5 < between < 2.5
    assert history.factor("f", "unseen") == between
    assert history.factor("other", "old") == 1.0


def test_speed_of_the_node_is_divided_out():
    history = History()
    history.observe("f", "f-1", "fast", 0.5, speed=4.0)
    assert history.seconds("f", "f-1", "slow") == pytest.approx(2.0)
    assert history.seconds("f", "f-9", "slow") == pytest.approx(2.0)
    for k in range(20):
        history.observe("g", str(k), "fast", 0.5, declared=2.0, speed=4.0)
    assert history.factor("g", "fast") == pytest.approx(1.0)


def test_label_is_known_better_than_name_and_name_on_the_kind_than_elsewhere():
    history = History()
    for k in range(30):
        history.observe("f", f"a{k}", "x", 1.0)
        history.observe("f", f"b{k}", "y", 4.0)
    history.observe("f", "big", "x", 50.0)
    assert history.seconds("f", "big", "y") == pytest.approx(50.0)
    assert history.seconds("f", "new", "y") == pytest.approx(4.0)
    assert 1.0 < history.seconds("f", "new", "unseen") < 10.0
    assert history.seconds("f", "new", "x") < history.seconds("f", "new", "y")
    assert history.seconds("g", "big", "x") is None


def test_label_seen_again_follows_the_last_runs():
    history = History()
    for seconds in (1.0, 1.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0):
        history.observe("f", "f-1", "k", seconds)
    assert history.seconds("f", "f-1") == pytest.approx(8.0, rel=0.25)


def test_oldest_labels_and_names_go_first():
    history = History(most=3)
    for label in "abc":
        history.observe("f", label, "k", 1.0, nbytes=1)
    history.observe("f", "a", "k", 1.0, nbytes=2)  # seen again: not the oldest now
    history.observe("f", "d", "k", 1.0, nbytes=3)
    kept = {label: seen.nbytes for (_, label), seen in history.labels.items()}
    assert kept == {"c": 1, "a": 2, "d": 3}
    for name in "ghi":
        history.observe(name, "x", "k", 1.0)
    assert history.seconds("f", "new") is None
    assert [*history.snapshot()["names"]] == ["g", "h", "i"]
    assert history.snapshot()["functions"] == 3


def test_sizes_are_those_seen_last_and_kept_where_none_are_told():
    history = History()
    history.observe("f", "f-1", "k", 1.0, nbytes=10)
    history.observe("f", "f-1", "k", 1.0)
    assert history.nbytes("f", "f-1") == 10
    history.observe("f", "f-1", "k", 1.0, nbytes=0)
    assert history.nbytes("f", "f-1") == 0


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_time_that_is_no_time_teaches_nothing_but_its_size_does(seconds):
    history = History()
    history.observe("f", "f-1", "k", seconds, declared=1.0, nbytes=7, node="n")
    assert history.seconds("f", "f-1", "k") is None
    assert history.factor("f", "k") == 1.0
    assert history.nbytes("f", "f-1") == 7


def test_times_of_zero_are_no_error():
    history = History()
    history.observe("f", "f-1", "k", 0.0, declared=0.0, node="n")
    assert history.seconds("f", "f-1") == pytest.approx(0.0, abs=1e-5)
    assert history.factor("f", "k") == 1.0
    assert history.node_factor("n") == 1.0


# ------------------------------------------------------------- names and nodes
def run_many(history, seed, *, wrong=1.0, slow=1.0, declared=1.0, rounds=15):
    """Eight nodes of one kind run functions of 4 names; n0 is slow."""
    noise = draws(seed)
    for k in range(rounds):
        for j in range(8):
            took = wrong * next(noise) * (slow if j == 0 else 1.0)
            name, label = f"f{k % 4}", f"{k}-{j}"
            history.observe(name, label, "k", took, declared=declared, node=f"n{j}")


def test_slow_node_is_told_apart_from_functions_that_take_longer_than_declared():
    slow, others, factors = [], [], []
    for seed in range(20):
        history = History()
        run_many(history, seed, wrong=3.0, slow=4.0)
        slow.append(history.node_factor("n0"))
        others += [history.node_factor(f"n{j}") for j in range(1, 8)]
        factors.append(history.factor("f0", "k"))
    assert np.median(slow) == pytest.approx(4.0, rel=0.35)
    assert np.median(others) == pytest.approx(1.0, abs=0.15)
    assert np.median(factors) == pytest.approx(3.0, rel=0.2)


def test_functions_that_take_longer_than_declared_do_not_make_nodes_slow():
    history = History()
    run_many(history, 1, wrong=3.0)
    factors = [history.node_factor(f"n{j}") for j in range(8)]
    assert factors == pytest.approx([1.0] * 8, abs=0.2)


def test_node_is_judged_by_labels_where_nothing_is_declared():
    history = History()
    run_many(history, 1, declared=None)
    for k in range(15):
        history.observe("f0", f"{k}-3", "k", 4.0, node="n3")
        history.observe("f0", f"{k}-4", "k", 1.0, node="n4")
    assert history.node_factor("n3") == pytest.approx(4.0, rel=0.3)
    assert history.node_factor("n4") == pytest.approx(1.0, abs=0.2)


def test_what_a_slow_node_took_is_no_fault_of_the_function():
    history = History()
    for _ in range(4):
        history.nodes.observe("n", 4.0)
    history.observe("f", "f-1", "k", 8.0, node="n")
    assert history.seconds("f", "f-1") == pytest.approx(2.0, rel=0.15)


def test_names_of_widely_different_times_tell_nothing_of_a_node():
    history, rng = History(), np.random.default_rng(0)
    for k in range(50):
        took = math.exp(2 * rng.standard_normal())
        history.observe("f", str(k), "k", took, node="n")
    assert history.node_factor("n") == pytest.approx(1.0, abs=0.05)


# --------------------------------------------------------------------- planning
def test_work_is_declared_by_factor_and_guesses_are_replaced():
    history = History()
    for k in range(80):
        history.observe("f", f"f{k}", "k", 3.0, declared=1.0)
        history.observe("g", f"g{k}", "k", 5.0)
    history.observe("g", "big", "k", 70.0)
    names = ["f", "f", "g", "g", "h", "h"]
    labels = ["f0", "new", "big", "new", "h0", "h1"]
    guessed = np.array([False, True, True, True, True, False])
    declared = np.array([10.0, 1.0, 1.0, 1.0, 2.5, 4.0])
    work = history.work(names, labels, guessed, declared)
    factor, new = history.factor("f"), history.seconds("g")
    expected = [10 * factor, history.seconds("f"), 70.0, new, 2.5, 4.0]
    assert work == pytest.approx(expected)
    assert factor == pytest.approx(3.0, rel=0.05)
    assert (declared == [10.0, 1.0, 1.0, 1.0, 2.5, 4.0]).all()


def test_second_run_of_a_graph_without_costs_is_planned_by_its_first():
    history, rng = History(), np.random.default_rng(1)
    took = rng.uniform(0.1, 10, 50)
    labels = [f"f-{k}" for k in range(50)]
    for label, seconds in zip(labels, took, strict=True):
        history.observe("f", label, "k", seconds / 2, speed=2.0)
    work = history.work(["f"] * 50, labels, np.ones(50, bool), np.ones(50))
    assert work == pytest.approx(took)


@pytest.mark.parametrize("known", [False, True])
def test_work_of_a_hundred_thousand_functions_takes_a_fraction_of_a_second(known):
    n, history = 100_000, History()
    if known:
        for k in range(10):
            history.observe(f"f{k}", "other", "k", 1.0 + k)
    names = [f"f{i % 10}" for i in range(n)]
    labels = [f"id-{i}" for i in range(n)]
    best = math.inf
    for _ in range(3):
        begin = time.perf_counter()
        work = history.work(names, labels, np.ones(n, bool), np.ones(n))
        best = min(best, time.perf_counter() - begin)
    assert work[:2] == pytest.approx([1.0, 2.0] if known else [1.0, 1.0])
    assert best < 0.2


def test_work_of_no_functions_is_empty():
    history = History()
    history.observe("f", "f", "k", 1.0)
    nothing = history.work([], [], np.zeros(0, bool), np.zeros(0))
    assert nothing.shape == (0,)


def test_snapshot_tells_all_of_names_and_nodes_and_is_json():
    history = History()
    for k in range(60):
        history.observe("f", str(k), "k", 3.0, declared=1.0, node="n")
    told = json.loads(json.dumps(history.snapshot()))
    assert told["functions"] == 60
    assert [*told["names"]] == ["f"]
    name = told["names"]["f"]
    assert name["observations"] == name["kinds"]["k"]["observations"] == 60
    assert name["seconds"] == pytest.approx(history.seconds("f"))
    assert name["factor"] == pytest.approx(history.factor("f"))
    assert name["kinds"]["k"]["factor"] == pytest.approx(history.factor("f", "k"))
    assert told["nodes"] == {"n": history.node_factor("n")}
    assert told["noise"] == history.nodes.noise


def test_kind_of_a_node_is_given_or_what_it_is_like():
    assert kind_of(Node("n", kind="a100")) == "a100"
    one = Node("one", {"cpu": 4, "ssd": True}, speed=2.0)
    other = Node("other", {"ssd": True, "cpu": 4}, speed=2.0, price=3.0)
    assert kind_of(one) == kind_of(other)
    assert kind_of(one) != kind_of(Node("x", {"cpu": 4, "ssd": True}))
    assert kind_of(one) != kind_of(Node("x", {"cpu": 4}, speed=2.0))
