"""What is refused at once: impossible costs and pins, bad plans and options."""

import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.problem import Lack


def test_an_impossible_cost_is_refused_with_nothing_submitted(executor, claimed):
    executed = []
    graph = Graph(
        [
            Function("ok", [], lambda: executed.append(1)),
            Function("big", ["ok"], lambda x: x, cost={"memory": 5000, "licence": 1}),
        ]
    )
    before = executor.client.run_on_scheduler(lambda dask_scheduler: set(
        dask_scheduler.tasks))  # fmt: skip
    for refuse in (executor.submit, executor.execute, executor.plan):
        with pytest.raises(hd.UnsatisfiableError) as info:
            refuse(graph)
        error = info.value
        assert str(error) == (
            "function 'big' fits on no node: n0, n1, wide lacks licence (needs 1, has "
            "0), lacks memory (needs 5000 MB, has 1000). Lower its cost or add a node."
        )
        lacks = (Lack("licence", 1.0, 0.0), Lack("memory", 5000.0, 1000.0))
        assert error.refusals == {"big": dict.fromkeys(("n0", "n1", "wide"), lacks)}
    after = executor.client.run_on_scheduler(lambda dask_scheduler: set(
        dask_scheduler.tasks))  # fmt: skip
    assert (after - before, claimed(executor)) == (set(), {})


def test_explain_says_the_same_as_text_and_as_data(executor):
    graph = Graph(
        [
            Function("shot", [], int, cost={"camera": 1}),
            Function("big", [], int, cost={"memory": 5000}),
        ]
    )
    shot, big = executor.explain(graph, "shot"), executor.explain(graph, "big")
    lack = (Lack("camera", 1.0, 0.0),)
    assert (shot.fits, shot.refusals) == (("wide",), {"n0": lack, "n1": lack})
    assert str(shot) == (
        "function 'shot'\n  wide: can run it\n"
        "  n0: lacks camera (needs 1, has 0)\n  n1: lacks camera (needs 1, has 0)"
    )
    lack = (Lack("memory", 5000.0, 1000.0),)
    assert (big.fits, big.planned) == ((), None)
    assert big.refusals == dict.fromkeys(("n0", "n1", "wide"), lack)
    alone = executor.explain(Graph([Function("shot", [], int, cost={"camera": 1})]),
                             "shot")  # fmt: skip
    assert alone.planned == "wide"
    assert "wide: can run it (planned)" in str(alone)
    with pytest.raises(KeyError, match="no function 'x'"):
        executor.explain(graph, "x")


def test_a_pin_to_a_node_that_is_not_there_names_those_that_are(executor):
    with pytest.raises(hd.UnsatisfiableError) as info:
        executor.submit(Graph([Function("a", [], int, node="n7")]))
    assert str(info.value) == (
        "function 'a' must run on node 'n7', but the nodes are n0, n1, wide. Correct "
        "the name or add the node."
    )


def test_a_pin_that_does_not_fit_is_refused(executor):
    graph = Graph([Function("a", [], int, node="n0", cost={"camera": 1})])
    with pytest.raises(hd.UnsatisfiableError) as info:
        executor.submit(graph)
    assert info.value.refusals["a"]["n0"] == (Lack("camera", 1.0, 0.0),)
    assert str(info.value).startswith("function 'a' fits on no node: n0 lacks camera")


def test_an_allocator_that_plans_nonsense_is_refused(executor):
    class Nonsense:
        def allocate(self, problem):
            plan = hd.plan(Graph(problem.functions), problem.cluster)
            return hd.Plan(problem, plan.node + 17, plan.option, plan.start, plan.end)

    with hd.Executor(executor.client, allocator=Nonsense()) as other:
        with pytest.raises(hd.AllocationError, match="breaks 1 rule"):
            other.submit(Graph([Function("a", [], int)]))
        assert other.client is executor.client


# ----------------------------------------------------------- the executor itself
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_failure": "explode"}, "on_failure='explode' must be one of"),
        ({"max_concurrency": 0}, "max_concurrency=0 must be an integer above 0"),
        ({"max_concurrency": 1.5}, "max_concurrency=1.5 must be an integer above 0"),
        ({"allocator": "best"}, "there is no allocator 'best'; known: first-available"),
        ({"allocator": 7}, "7 is no allocator: it needs a method allocate"),
        ({"tracker": 7}, "7 is no ResourceTracker: it needs register"),
    ],
)
def test_a_bad_option_is_refused_before_anything_starts(options, text):
    with pytest.raises(hd.HandoutError) as info:
        hd.Executor("tcp://127.0.0.1:9", **options)
    assert text in str(info.value)


def test_a_tracker_that_cant_travel_is_refused():
    class Locked(hd.StaticTracker):
        def __reduce__(self):
            raise TypeError("stays here")

    with pytest.raises(hd.HandoutError, match="can't act on the scheduler: TypeError"):
        hd.Executor("tcp://127.0.0.1:9", tracker=Locked())


def test_an_address_where_nobody_is_is_an_error():
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        pytest.raises(OSError, match="Timed out trying to connect"),
    ):
        hd.Executor("tcp://127.0.0.1:9")


def test_a_closed_executor_says_so(executor):
    other = hd.Executor(executor.client)
    other.close()
    other.close()
    for use in (
        lambda: other.submit(Graph()),
        lambda: other.plan(Graph()),
        lambda: other.execute(Graph()),
        other.nodes,
    ):
        with pytest.raises(hd.HandoutError, match="the executor is closed"):
            use()
