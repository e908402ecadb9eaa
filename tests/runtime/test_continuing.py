"""What `resume` is asked for is looked at before anything is started."""

import pytest

import handout_dask as hd


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("allocater", "did you mean allocator=?"),
        ("trusted", "did you mean trust=?"),
        ("max_concurency", "did you mean max_concurrency=?"),
        ("zzz", "it takes journal, cluster, graph, trust, nodes, allocator, "),
    ],
)
def test_an_argument_that_there_is_not_is_named_with_what_may_be_meant(given, hint):
    with pytest.raises(hd.HandoutError) as info:
        hd.resume("0a1b2c3d4e5f6a7b", **{given: 1})
    assert str(info.value).startswith(f"resume takes no argument {given!r}; {hint}")


def test_it_is_not_asynchronous():
    with pytest.raises(hd.HandoutError, match="use await executor.resume"):
        hd.resume("0a1b2c3d4e5f6a7b", asynchronous=True)
