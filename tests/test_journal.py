"""Journals and sealed files as bytes: torn ends are borne, all else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handout_dask.errors import JournalError, UntrustedError
from handout_dask.journal import CRASHED, ENDED, HEADER, Past, from_bytes, to_line
from handout_dask.sealed import seal, unseal, verify

NAME = "runs/0a1b/log/0000-x"
KEY = b"k" * 32

scalar = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
record = st.lists(scalar, min_size=1, max_size=4)
batches = st.lists(st.lists(record, min_size=1, max_size=3), min_size=1, max_size=4)


def flat(lines):
    return [record for line in lines for record in line]


def whole(lines):
    return HEADER + b"".join(map(to_line, lines))


@given(batches)
def test_what_was_written_is_read(lines):
    assert from_bytes(whole(lines), NAME) == flat(lines)


@given(batches)
def test_cut_at_any_byte_only_the_last_line_is_lost(lines):
    data = whole(lines)
    ends = [len(HEADER)]
    for line in lines:
        ends.append(ends[-1] + len(to_line(line)))
    for cut in range(len(data) + 1):
        left = sum(end <= cut for end in ends[1:])
        assert from_bytes(data[:cut], NAME) == flat(lines[:left])


@given(batches, st.data())
def test_a_flipped_byte_is_refused_or_costs_the_last_line(lines, data):
    whole_file = bytearray(whole(lines))
    at = data.draw(st.integers(0, len(whole_file) - 1))
    whole_file[at] ^= data.draw(st.integers(1, 255))
    last = len(whole_file) - len(to_line(lines[-1]))
    try:
        found = from_bytes(bytes(whole_file), NAME)
    except JournalError:
        assert at < last
        return
    # Without the line feed before it, the last line makes one with that before it.
    assert at >= last - 1
    assert found == flat(lines[: -1 if at >= last else -2])


def test_what_is_corrupt_before_its_end_is_refused_with_name_and_place():
    first, second = to_line([["a"]]), to_line([["b"]])
    data = HEADER + first + second.replace(b'"b"', b'"c"') + to_line([["d"]])
    with pytest.raises(JournalError, match=f"{NAME}.*byte {len(HEADER + first)}"):
        from_bytes(data, NAME)


def test_several_lines_that_are_torn_at_the_end_are_lost():
    data = whole([[["a"]], [["b"]], [["c"]]])
    at = len(whole([[["a"]]]))
    assert from_bytes(data[:at] + b"\0" * (len(data) - at), NAME) == [["a"]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x80\x04K\x01.", "no journal"),
        (b"{}", "no journal"),
        (b"handout-journal 2\n", "of version 2"),
    ],
)
def test_foreign_files_are_refused_with_their_name(data, why):
    with pytest.raises(JournalError, match=why) as info:
        from_bytes(data, NAME)
    assert NAME in str(info.value)


def test_an_empty_file_is_a_journal_of_which_nothing_was_written():
    assert from_bytes(b"", NAME) == []


def ended(name, outcome, nbytes=None):
    return [ENDED, name, outcome, "n0", 0.0, 1.0, 1, nbytes, None]


def test_the_past_has_sizes_and_crashes_of_what_has_not_ended():
    past = Past()
    past.take([["session", "x"], [CRASHED, "a", 1, True], [CRASHED, "b", 1, False]])
    past.take([[CRASHED, "b", 2, True], ended("a", "done", 8)])
    past.take([[CRASHED, "c", 3, True]])
    past.take([ended("c", "failed")])
    assert past == Past({"a": "done", "c": "failed"}, {"a": 8}, {"b": (2, True)})


# ------------------------------------------------------------------- sealed files
ABOUT = {"kind": "result", "run": "0a", "name": "ff"}
parts = st.lists(st.binary(max_size=20), max_size=3)


def pieces(data):
    return [data[at : at + 7] for at in range(0, len(data), 7)]


def sealed(some, about=ABOUT, key=KEY):
    return b"".join(map(bytes, seal(about, some, key)))


@given(parts)
def test_what_was_sealed_is_had_back(some):
    about, found = unseal(sealed(some), KEY, NAME, ABOUT)
    verify(pieces(sealed(some)), KEY, NAME, ABOUT)
    assert (about, list(map(bytes, found))) == (ABOUT, some)


@given(parts)
def test_cut_anywhere_a_sealed_file_is_refused_by_all(some):
    data = sealed(some)
    for cut in range(len(data)):
        for key in (KEY, None):
            with pytest.raises(JournalError, match=NAME):
                unseal(data[:cut], key, NAME, ABOUT)
            with pytest.raises(JournalError, match=NAME):
                verify(pieces(data[:cut]), key, NAME, ABOUT)


@given(parts, st.data())
def test_a_flipped_byte_never_gives_other_parts(some, data):
    file = bytearray(sealed(some))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(JournalError, match=NAME):
        unseal(bytes(file), KEY, NAME, ABOUT)
    with pytest.raises(JournalError, match=NAME):
        verify(pieces(bytes(file)), KEY, NAME, ABOUT)
    try:
        _, found = unseal(bytes(file), None, NAME, ABOUT)
    except JournalError:
        return
    assert list(map(bytes, found)) == some  # it was in the signature


def test_a_file_of_another_user_has_to_be_trusted():
    data = sealed([b"x"], key=b"another")
    with pytest.raises(UntrustedError, match="trust=True"):
        unseal(data, KEY, NAME, ABOUT)
    assert unseal(data, None, NAME, ABOUT)[1] == [b"x"]


def test_a_file_of_another_function_is_refused():
    with pytest.raises(JournalError, match="its name is 'ff', not 'fe'"):
        unseal(sealed([b"x"]), KEY, NAME, {**ABOUT, "name": "fe"})


def test_another_version_is_refused():
    data = sealed([b"x"]).replace(b"sealed 1", b"sealed 9", 1)
    with pytest.raises(JournalError, match="version 9"):
        unseal(data, KEY, NAME, ABOUT)


def test_a_pickle_is_no_sealed_file():
    with pytest.raises(JournalError, match="none of handout_dask"):
        unseal(b"\x80\x04K\x01.", None, NAME, ABOUT)
