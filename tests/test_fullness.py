"""Whether nodes have room for what functions leave behind."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from handout_dask.fullness import STUCK, Fill, Fullness

FILL = Fill(
    limit=300.0, used=100.0, pause=0.8, managed=50.0, path="/spill", device="8",
    free=100.0, total=100.0, spilled=0.0, failures=0,
)  # fmt: skip


def told(**fills):
    made = Fullness()
    for name, changes in fills.items():
        made.told(name, replace(FILL, **changes), ())
    return made


def member(i):
    return ("t", i)


def test_where_the_disk_is_larger_than_the_memory_everything_fits():
    made = told(a={"free": 1000.0, "used": 299.0})
    assert all(made.admits("a", member(i), 1e6, 0.0) for i in range(9))
    assert not made.is_cramped("a")


def test_nothing_is_known_of_nodes_that_tell_nothing_and_so_everything_fits():
    assert told().admits("a", member(0), 1e6, 0.0)
    assert told(a={"limit": 0.0}).admits("a", member(0), 1e6, 0.0)


def test_what_is_sent_counts_until_the_node_tells_again():
    made = told(a={"free": 0.0})  # 140 MB below the ceiling
    assert [made.admits("a", member(i), 40.0, 0.0) for i in range(3)] == [1, 1, 0]
    assert (made.is_full("a"), made.refused("a")) == (True, {member(2)})
    assert "full: it uses 100 MB of its 300 MB" in made.why("a", member(2))
    assert made.why("a", member(0)) == ""
    made.told("a", replace(FILL, used=140.0, free=0.0), [member(1)])
    assert not made.is_full("a")
    assert [made.admits("a", member(2), x, 0.0) for x in (31.0, 30.0)] == [0, 1]
    assert not made.is_full("a")


def test_what_frees_more_than_it_leaves_is_never_held_back():
    made = told(a={"used": 290.0, "free": 0.0})
    assert not made.admits("a", member(0), 10.0, 9.0)
    assert made.admits("a", member(1), 10.0, 10.0)


def test_a_large_result_goes_to_an_idle_node_whose_disk_can_take_it():
    made = told(a={"used": 130.0})
    assert made.admits("a", member(0), 77.0, 0.0)  # above the ceiling, with the disk
    made = told(a={"used": 130.0, "free": 5.0})
    assert not made.admits("a", member(0), 77.0, 0.0)


def test_a_node_that_holds_nothing_is_never_full():
    made = told(a={"managed": 0.0, "used": 280.0, "free": 0.0})
    assert made.admits("a", member(0), 500.0, 0.0)


def test_nodes_of_one_disk_share_what_is_free():
    alone = told(a={"free": 400.0})
    shared = told(a={"free": 400.0}, b={"free": 400.0})
    apart = told(a={"free": 400.0}, b={"free": 400.0, "device": "9"})
    assert [x.is_cramped("a") for x in (alone, shared, apart)] == [False, True, False]
    shared.forget("b")
    assert not shared.is_cramped("a")


def test_progress_is_told_from_noise():
    made = told(a={})
    assert not made.told("a", FILL, ())
    assert not made.told("a", replace(FILL, used=103.0), ())
    assert made.told("a", replace(FILL, used=120.0), ())
    assert made.told("a", replace(FILL, used=120.0, spilled=5.0), ())


def test_stuck_is_what_has_not_moved_for_long():
    made = told(a={})
    made.moves(100.0)
    assert not made.is_stuck(100.0 + STUCK - 0.1)
    assert made.is_stuck(100.0 + STUCK)


@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 50))),
    st.floats(0, 299),
    st.floats(0, 320),
)
def test_what_is_admitted_never_exceeds_what_a_node_can_hold(asked, used, free):
    made = told(a={"used": used, "free": free})
    disk = 0.9 * free
    coming = {}
    for i, (mb, frees) in enumerate(asked):
        if made.admits("a", member(i), mb, frees) and mb > frees:
            coming[i] = mb
            if made.is_cramped("a"):
                held = sum(coming.values())
                assert held <= max(0.0, FILL.ceiling - used) + disk + 1e-6 or (
                    len(coming) == 1
                )
