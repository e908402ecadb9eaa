"""Laws of histories of several: merged as if one had seen all; documents and back."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.errors import HandoutError
from handout_dask.histories import MANY, excerpt, fill, merge, put_before
from handout_dask.history import History
from handout_dask.historydoc import LABELS, WRITERS, Document, from_bytes, to_bytes

SOME = st.one_of(st.none(), st.floats(0.01, 100))
SEEN = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["f", "g", "h\ud800 é"]),
            "label": st.sampled_from(["a", "b", "c"]),
            "kind": st.sampled_from(["cpu", "gpu"]),
            "seconds": st.floats(0.001, 1000),
            "declared": SOME,
            "nbytes": st.one_of(st.none(), st.integers(0, 10**9)),
            "memory": st.one_of(st.none(), st.floats(1, 1e5)),
            "exact": st.booleans(),
            "claimed": st.sampled_from([0.0, 100.0]),
        }
    ),
    max_size=15,
)


def history_of(rows, apart=False):
    history = History()
    if apart:
        history.keep_apart()
    for row in rows:
        history.observe(**row)
    return history


def told(history):
    """All that is known, as numbers; of nodes nothing."""
    return json.loads(to_bytes(Document(history)))


def close(a, b):
    """Equal but for rounding."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
    return a == b


def counts(history):
    return (
        {
            name: (known.work.count, known.factor.count, known.size.count)
            for name, known in history.names.items()
        },
        {pair: seen.count for pair, seen in history.labels.items()},
    )


# ----------------------------------------------------------------------------- merging
@settings(deadline=None)
@given(SEEN, SEEN)
def test_what_was_kept_apart_added_to_what_was_known_is_all(first, then):
    both = history_of(first + then)
    apart = history_of(then, apart=True)
    merged = history_of(first)
    merge(merged, apart.fresh)
    assert counts(merged) == counts(both)
    mine, all_ = told(merged), told(both)
    for name, known in all_["names"].items():
        assert close(mine["names"][name]["excess"], known["excess"])
        assert close(mine["names"][name]["size"], known["size"])
        for what in ("seconds", "factor"):  # a prior is spread to one, not to the other
            weight, mean, _, count = known[what]
            assert close(mine["names"][name][what][:2], [weight, mean])
            assert mine["names"][name][what][3] == count
    assert close(mine["labels"], all_["labels"])


@settings(deadline=None)
@given(SEEN, SEEN)
def test_merging_loses_and_doubles_nothing_in_either_order(first, then):
    one, other = history_of(first, apart=True), history_of(then, apart=True)
    ab, ba = History(), History()
    for history, parts in ((ab, (one, other)), (ba, (other, one))):
        for part in parts:
            merge(history, part.fresh)
    for mine, others in zip(counts(ab), counts(ba), strict=True):
        assert mine == others
    total = {}
    for row in first + then:
        key = row["name"], row["label"]
        total[key] = total.get(key, 0) + 1
    assert counts(ab)[1] == total


@settings(deadline=None)
@given(SEEN, SEEN)
def test_what_is_loaded_late_counts_as_before_what_was_seen_since(older, since):
    history = history_of(since, apart=True)
    put_before(history, history_of(older))
    both = history_of(older + since)
    assert counts(history) == counts(both)
    for name, known in both.names.items():
        mine = history.names[name].factor
        assert close([mine.weight, mine.mean], [known.factor.weight, known.factor.mean])
    assert counts(history.fresh) == counts(history_of(since))


def test_an_excerpt_is_a_copy_that_fills_what_is_not_known():
    row = {"kind": "k", "seconds": 2.0}
    history = history_of([{"name": n, "label": x, **row} for n in "fg" for x in "ab"])
    part = excerpt(history, ["f", "new"], [("f", "a"), ("f", "z")])
    assert ([*part.names], [*part.labels]) == (["f"], [("f", "a")])
    assert excerpt(history, ["new"], []) is None
    many = excerpt(history, ["f"], [("f", "a")] * 3 + [("f", str(k)) for k in range(9)])
    assert [*many.labels] == [("f", "a")]
    for k in range(MANY + 2):
        history.observe("f", str(k), "k", 1.0)
    pairs = [("f", str(k)) for k in range(MANY + 2)]
    assert not excerpt(history, ["f"], pairs).labels
    other = History()
    other.observe("f", "a", "k", 50.0)
    fill(other, part)
    assert other.seconds("f", "a") == pytest.approx(50.0)
    part.observe("f", "a", "k", 70.0)
    assert history.names["f"].work.count == MANY + 4


# --------------------------------------------------------------------------- documents
@settings(deadline=None)
@given(SEEN)
def test_a_document_comes_back_as_it_was(rows):
    document = Document(history_of(rows), {"x": 3})
    data = to_bytes(document)
    again = from_bytes(data)
    assert to_bytes(again) == data
    assert counts(again.history) == counts(document.history)
    assert again.saves == {"x": 3}


@settings(deadline=None)
@given(SEEN, SEEN)
def test_a_history_goes_on_after_it_came_back(rows, more):
    history = history_of(rows)
    again = from_bytes(to_bytes(Document(history))).history
    again.nodes = history.nodes
    for row in more:
        history.observe(**row)
        again.observe(**row)
    assert told(again) == told(history)


def test_nothing_is_an_empty_document():
    assert counts(from_bytes(b"").history) == counts(from_bytes(b" \n").history)
    assert counts(from_bytes(b"").history) == ({}, {})


def test_a_document_has_the_latest_functions_and_writers():
    history = History()
    for k in range(LABELS + 5):
        history.observe("f", str(k), "k", 1.0)
    document = Document(history)
    for k in range(WRITERS + 3):
        document.saved_by(str(k))
    again = from_bytes(to_bytes(document))
    assert len(again.history.labels) == LABELS
    assert ("f", str(LABELS + 4)) in again.history.labels
    assert len(again.saves) == WRITERS
    assert "0" not in again.saves


def torn():
    history = history_of([{"name": "f", "label": "a", "kind": "k", "seconds": 1.0}])
    return to_bytes(Document(history))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00\xff\xfe", "is no history"),
        (b"a,b\n1,2\n", "is no history"),
        (b"[]", "is no history"),
        (b'{"format": "other"}', "is no history"),
        (torn()[:-9], "a part of one"),
        (torn().replace(b'"version":1', b'"version":2'), "version 2"),
        (torn().replace(b'"kinds"', b'"kind"'), "damaged"),
        (torn().replace(b'[1.0,0.0,0.0,1]', b'[1.0,"x",0.0,1]'), "damaged"),
        (torn().replace(b'[1.0,0.0,0.0,1]', b'[-1.0,0.0,0.0,1]'), "damaged"),
        (torn().replace(b'[1.0,0.0,0.0,1]', b'[1.0,NaN,0.0,1]'), "damaged"),
        (torn().replace(b'"labels":[[0', b'"labels":[[7'), "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_history_is_refused(data, why):
    assert data != torn()
    with pytest.raises(HandoutError, match=why):
        from_bytes(data)
