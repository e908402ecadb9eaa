"""Laws of `printable`: one bounded line, whatever it is given."""

from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.printable import columns, padded, printable

calm = settings(deadline=None)  # machines may be slow

HOSTILE = [
    "a\nb", "\x1b[2J\x1b[31m", "\x9b31m", "\r\rgone", "\u202egnp.exe", "\ud800", "\x00",
    "\u2028", "e" + "\u0301" * 500, "🦆" * 50, "表" * 100, "x" * 10_000,
]  # fmt: skip


@calm
@given(st.one_of(st.text(), st.sampled_from(HOSTILE), st.tuples(st.text())))
def test_it_is_one_line_that_fits_and_that_nothing_acts_on(value):
    for most in (2, 10, 60):
        text = printable(value, most)
        assert columns(text) <= most
        assert len(text) <= 4 * most + 1
        assert text.replace("\u200d", "").isprintable()
        text.encode()
        assert printable(text, most) == text


def test_what_can_be_shown_is_left_as_it_is():
    for text in ("a", "blur-0017", "Größe 表 🦆", "👨\u200d👩\u200d👧", "", " a  b "):
        assert printable(text) == text


def test_of_what_is_too_long_both_ends_are_left():
    assert printable("begin" + "x" * 10_000 + "end-1", 16) == "beginxxxxx…end-1"


def test_a_value_whose_repr_raises_is_called_so():
    class Bad:
        def __repr__(self):
            raise ValueError

    assert printable(Bad()) == "<Bad whose repr raises ValueError>"


def test_padding_counts_columns_not_characters():
    assert [columns(padded(x, 6)) for x in ("a", "表", "🦆🦆")] == [6, 6, 6]
    assert padded("表", 4, right=True) == "  表"
