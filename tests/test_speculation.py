"""When a late function shall begin anew elsewhere."""

from hypothesis import given
from hypothesis import strategies as st

from handout_dask.speculation import elsewhere

seconds = st.floats(0.01, 100.0)


def test_function_on_a_node_known_to_be_slow_goes_where_it_ends_earlier():
    offers = {"far": 9.0, "near": 4.0}
    assert elsewhere(2.0, 3.0, 10.0, offers) == "near"  # 28 s are left
    assert elsewhere(28.0, 3.0, 10.0, {"near": 20.0}) is None


def test_function_that_is_late_itself_is_taken_to_be_on_a_slow_node():
    assert elsewhere(1.6, 1.0, 1.0, {"b": 1.9}) == "b"  # 2.4 s are left in the mean
    assert elsewhere(1.6, 1.0, 1.0, {"b": 2.0}) is None
    assert elsewhere(20.0, 1.0, 1.0, {"b": 7.0}) == "b"  # 8.9 s


def test_without_an_offer_it_stays():
    assert elsewhere(50.0, 1.0, 4.0, {}) is None


@given(seconds, seconds, st.floats(1.0, 20.0), st.dictionaries(st.text(), seconds))
def test_it_moves_only_to_the_best_offer_and_not_for_less(
    passed, believed, slower, offers
):
    best = elsewhere(passed, believed, slower, offers)
    if best is not None:
        assert offers[best] == min(offers.values())
        dearer = {name: 10 * x for name, x in offers.items()}
        assert elsewhere(passed, believed, slower, dearer) in (None, best)
    else:
        assert elsewhere(passed, believed, max(slower - 1, 0), offers) is None
