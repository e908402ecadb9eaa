"""How long results take from node to node: what is declared, until it is measured."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.node import Cluster, Node
from handout_dask.traffic import FIRST_COST, LARGE, SMALL, Traffic

AB = [Node("a"), Node("b")]


def links(traffic: Traffic, *names: str) -> tuple[list[list[float]], list[list[float]]]:
    bandwidth, latency = traffic.links(list(names))
    return bandwidth.tolist(), latency.tolist()


def test_before_anything_is_known_all_links_are_alike() -> None:
    traffic = Traffic(50.0)
    assert traffic.seconds("a", "b", 100.0) == pytest.approx(2.0 + FIRST_COST)
    assert traffic.link("a", "b") == (FIRST_COST, 50.0)
    cost = 1e3 * FIRST_COST
    assert links(traffic, "a", "b") == ([[50.0] * 2] * 2, [[cost] * 2] * 2)


def test_declared_links_count_until_they_are_measured() -> None:
    traffic = Traffic(50.0)
    traffic.declare(Cluster(AB, [[0, 10], [20, 0]], [[0, 500], [0, 0]]))
    assert traffic.seconds("a", "b", 10.0) == pytest.approx(1.5 + FIRST_COST)
    assert traffic.seconds("b", "a", 10.0) == pytest.approx(0.5 + FIRST_COST)
    assert traffic.seconds("a", "c", 10.0) == pytest.approx(0.2 + FIRST_COST)
    bandwidth, latency = links(traffic, "c", "b", "a")
    assert [row[:] for row in bandwidth] == [[50, 50, 50], [50, 50, 20], [50, 10, 50]]
    cost = 1e3 * FIRST_COST
    assert latency[2] == pytest.approx([cost, 500 + cost, cost])


def test_what_is_declared_last_counts() -> None:
    traffic = Traffic()
    for speed in (10, 20):
        traffic.declare(Cluster(AB, speed, 0))
    assert traffic.link("a", "b") == (FIRST_COST, 20.0)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1.0, 10.0, 100.0]),
    st.sampled_from([0.0, 20.0]),
    st.sampled_from([0.5, 3.0, 80.0, 2000.0]),
    st.sampled_from([0.0, 0.001, 0.05]),
    st.integers(0, 10**6),
)
def test_estimates_become_what_is_measured(
    declared: float, latency: float, true: float, cost: float, seed: int
) -> None:
    rng = random.Random(seed)
    traffic = Traffic()
    traffic.declare(Cluster(AB, declared, latency))

    def takes(mb: float) -> float:
        return latency / 1e3 + cost + mb / true

    for _ in range(200):  # small ones tell the cost
        traffic.observe("b", "a", 0.0, latency / 1e3 + cost)
    for _ in range(200):
        mb = rng.uniform(LARGE, 50.0)
        traffic.observe("a", "b", mb, takes(mb))
    for mb in (0.0, 1.0, 30.0):
        assert traffic.seconds("a", "b", mb) == pytest.approx(takes(mb), rel=0.01,
                                                              abs=1e-4)  # fmt: skip
    bandwidth, late = traffic.links(["a", "b"])
    assert bandwidth[0, 1] == pytest.approx(true, rel=0.01)
    assert bandwidth[1, 0] == declared  # of which nothing large was measured
    assert late[0, 1] == pytest.approx(latency + 1e3 * cost, abs=0.1)


def test_noise_is_averaged_and_a_change_is_followed() -> None:
    rng = random.Random(1)
    traffic = Traffic(100.0)
    for true in (10.0, 1.0, 40.0):
        for _ in range(60):
            traffic.observe("a", "b", 5.0, 5.0 / true * rng.uniform(0.8, 1.2))
        assert traffic.seconds("a", "b", 5.0) == pytest.approx(5.0 / true, rel=0.15)


def test_one_measurement_does_not_overrule_what_is_declared() -> None:
    traffic = Traffic()
    traffic.declare(Cluster(AB, 100, 0))
    traffic.observe("a", "b", 10.0, 10.0)  # it was held up
    assert 1.0 < traffic.seconds("a", "b", 10.0) < 3.0


def test_transfers_that_seem_to_take_no_time_make_a_link_fast() -> None:
    traffic = Traffic(1.0)
    for _ in range(200):
        traffic.observe("a", "b", 10.0, FIRST_COST / 2)
    assert traffic.seconds("a", "b", 10.0) == pytest.approx(FIRST_COST, rel=0.05)


def test_transfers_of_middling_size_tell_too_little_of_either() -> None:
    traffic = Traffic(100.0)
    before = traffic.link("a", "b")
    traffic.observe("a", "b", (SMALL + LARGE) / 2, 9.0)
    assert traffic.link("a", "b") == before


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1e4), st.floats(0, 1e4))))
def test_estimates_stay_times_whatever_was_measured(
    seen: list[tuple[str, float, float]],
) -> None:
    traffic = Traffic(100.0)
    traffic.declare(Cluster(AB, 10, 1))
    for a, mb, seconds in seen:
        traffic.observe(a, "b" if a == "a" else "a", mb, seconds)
    bandwidth, latency = traffic.links(["a", "b", "c"])
    assert np.isfinite(bandwidth).all()
    assert (bandwidth > 0).all()
    assert (latency >= 0).all()
    assert traffic.seconds("a", "b", 0.0) <= traffic.seconds("a", "b", 1e3)
    Cluster([*AB, Node("c")], bandwidth, latency)
