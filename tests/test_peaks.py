"""Laws of the memory that is learned: how much is believed, and how much is claimed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handout_dask.peaks import FADE, LEAST, MARGIN, SERIES, Peak, coarse, to_claim

MB = st.floats(0.001, 1e7)
NONE_OR_MB = st.one_of(st.just(0.0), MB)
VALUES = st.lists(st.tuples(MB, st.booleans()), max_size=20)


def peak_of(values):
    peak = Peak()
    for value, exact in values:
        peak.add(value, exact)
    return peak


def state(peak):
    return peak.level, peak.count, peak.exact


# ---------------------------------------------------------------------------- levels
@given(st.lists(MB, min_size=1))
def test_level_is_no_less_than_the_last_value_and_no_more_than_the_largest(values):
    peak = peak_of([(value, True) for value in values])
    assert values[-1] <= peak.level <= max(values)
    assert peak.count == len(values)


def test_one_large_value_fades_slowly():
    peak = peak_of([(1000.0, True)] + [(100.0, True)] * 69)
    assert peak.level == pytest.approx(1000.0 * FADE**69)
    assert 490 < peak.level < 510
    assert peak_of([(1000.0, True)] + [(100.0, True)] * 1000).level == 100.0


def test_estimates_count_until_there_is_an_exact_value():
    assert state(peak_of([(900.0, False), (800.0, False)])) == (891.0, 2, False)
    assert state(peak_of([(900.0, False), (50.0, True)])) == (50.0, 1, True)
    assert state(peak_of([(50.0, True), (900.0, False)])) == (50.0, 1, True)


@given(VALUES, VALUES)
def test_merged_peaks_are_those_of_one_who_saw_all(first, then):
    peak = peak_of(first)
    peak.merge(peak_of(then))
    level, count, exact = state(peak_of(first + then))
    assert state(peak) == (pytest.approx(level), count, exact)


@given(VALUES, VALUES)
def test_order_of_merging_changes_no_count_and_no_maximum_by_more_than_it_fades(a, b):
    one, other = peak_of(a), peak_of(b)
    one.merge(peak_of(b))
    other.merge(peak_of(a))
    assert (one.count, one.exact) == (other.count, other.exact)
    if one.count:
        assert abs(np.log(one.level / other.level)) <= -np.log(FADE) * 40 + 1e-9


# ---------------------------------------------------------------------------- coarse
@given(MB)
def test_coarse_sizes_are_at_most_a_fifth_more(mb):
    (up,) = coarse(np.array([mb])).tolist()
    if mb < LEAST:
        assert up == 0.0
    else:
        assert mb * (1 - 1e-9) <= up <= mb * 1.2
        assert coarse(np.array([up])).tolist() == [up]


def test_few_sizes_are_claimed():
    assert len(set(coarse(np.linspace(10, 9_999, 100_000)).tolist())) <= 3 * 24 + 1
    assert coarse(SERIES * 100) == pytest.approx(SERIES * 100)
    odd = np.array([0.0, np.inf, np.nan, 9.99])
    assert coarse(odd).tolist() == [0.0] * 4


# ---------------------------------------------------------------------------- claims
def claim(declared=0.0, seen=float("nan"), level=0.0, ratio=0.0):
    return to_claim(*(np.array([x]) for x in (declared, seen, level, ratio)))[0]


@given(NONE_OR_MB, NONE_OR_MB, NONE_OR_MB, st.floats(0, 100))
def test_no_claim_is_less_than_declared(declared, seen, level, ratio):
    assert claim(declared, seen, level, ratio) >= declared


@given(NONE_OR_MB, NONE_OR_MB, st.floats(0, 100))
def test_no_declaration_is_raised_beyond_what_was_seen_of_its_name(d, level, ratio):
    assert claim(d, 0.0, level, ratio) <= max(d, 1.2 * MARGIN * level)


def test_what_is_not_declared_is_what_was_seen_with_a_margin():
    assert claim() == 0.0
    assert claim(level=200.0) == 220.0
    assert claim(seen=400.0, level=900.0) == 470.0  # 440: the very function
    assert claim(level=8.0) == 0.0  # noise


def test_what_is_declared_is_raised_only_where_it_was_too_little():
    assert claim(declared=500.0, seen=300.0) == 500.0
    assert claim(declared=500.0, seen=505.0) == 510.0
    assert claim(declared=500.0, level=400.0, ratio=0.8) == 500.0
    assert claim(declared=500.0, level=2000.0, ratio=2.0) == 1000.0
    assert claim(declared=500.0, level=700.0, ratio=2.0) == 750.0
    assert claim(declared=1000.0, level=700.0, ratio=2.0) == 1000.0
