"""How often functions are tried, and how many run at once."""

import pytest

import handout_dask as hd
from handout_dask import Function, Graph, RetryPolicy


def _callers(call, names, **options):
    return [Function(n, [], call, extra_args=[n], **options) for n in names]


def _bad():
    raise ValueError("bad")


def _fails(journal, times):
    def code():
        journal("called")
        if len(journal.lines()) <= times:
            raise ValueError(f"call {len(journal.lines())}")
        return 5

    return code


def test_without_a_policy_a_function_is_tried_once(executor, journal, caught):
    caught(ValueError, executor.execute, Graph([Function("a", [], _fails(journal, 9))]))
    assert len(journal.lines()) == 1


def test_a_policy_tries_until_it_succeeds(executor, journal):
    retry = RetryPolicy(attempts=5)
    graph = Graph(
        [
            Function("a", [], _fails(journal, 2), retry=retry),
            Function("b", ["a"], lambda a: 4 * a),
        ]
    )
    run = executor.execute(graph)
    assert (run["a"], run["b"], len(journal.lines())) == (5, 20, 3)
    assert [(s.function, s.attempt, s.outcome) for s in run.spans] == [
        ("a", 1, "failed"),
        ("a", 2, "failed"),
        ("a", 3, "done"),
        ("b", 1, "done"),
    ]


def test_a_policy_tries_no_more_than_it_says(executor, journal, caught):
    graph = Graph(
        [Function("a", [], _fails(journal, 9), retry=RetryPolicy(attempts=3))]
    )
    error = caught(ValueError, executor.execute, graph)
    assert (len(journal.lines()), error.args) == (3, ("call 3",))
    assert error.handout[0::2] == ("a", 3)


def test_a_functions_policy_goes_before_the_executors(executor, journal, caught):
    once = RetryPolicy(attempts=1)
    with hd.Executor(executor.client, retry=RetryPolicy(attempts=6)) as other:
        graph = Graph([Function("a", [], _fails(journal, 9), retry=once)])
        caught(ValueError, other.execute, graph)
        assert len(journal.lines()) == 1
        caught(
            ValueError, other.execute, Graph([Function("a", [], _fails(journal, 9))])
        )
        assert len(journal.lines()) == 1 + 6


def test_elements_of_a_retried_function_are_cut_once_it_succeeds(executor, journal):
    code = _fails(journal, 1)
    graph = Graph(
        [
            Function("a", [], lambda: [code()], retry=RetryPolicy(2), node="n0"),
            Function("b", [("a", 0)], lambda x: x, node="n1"),
        ]
    )
    assert executor.execute(graph)["b"] == 5


# ------------------------------------------------------------------------ limits
@pytest.mark.parametrize("limit", [1, 2])
def test_max_concurrency_limits_the_functions_of_a_run_at_once(
    executor, journal, limit
):
    def code():
        journal.stamp("begin")
        sum(range(20_000))
        journal.stamp("end")

    with hd.Executor(executor.client, max_concurrency=limit) as limited:
        limited.execute(Graph(Function(k, [], code) for k in range(30)))
    assert len(journal.lines()) == 60
    assert 1 <= journal.most_at_once() <= limit


def test_max_concurrency_lets_as_many_run_as_it_says(executor, gate):
    with hd.Executor(executor.client, max_concurrency=2) as limited:
        run = limited.submit(Graph(_callers(gate.call(), "abcd")))
        running = gate.arrivals(2)
        for _ in range(2):
            assert gate.nobody()
            gate.let(running.pop(0))
            running += gate.arrivals(1)
        gate.let()
        assert dict(run.wait(30).results) == {n: n for n in "abcd"}


def test_demands_limit_what_runs_at_once_on_a_node(executor, journal):
    def code(name):
        journal.stamp("begin", name)
        sum(range(20_000))
        journal.stamp("end", name)

    cost = {"memory": 400, "cpu_time": 1}
    graph = Graph(
        Function(k, [], code, extra_args=[k], node="wide", cost=cost) for k in range(20)
    )
    executor.execute(graph)
    assert journal.most_at_once() <= 2  # of 1000 MB, though there are four slots


def test_a_function_of_several_cores_gets_them(executor, journal):
    def code(cores):
        for _ in range(cores):
            journal.stamp("begin")
        sum(range(20_000))
        for _ in range(cores):
            journal.stamp("end")

    graph = Graph(
        Function(k, [], code, extra_args=[1 + k % 4], node="wide",
                 cost={"cpu": 1 + k % 4, "cpu_time": 1})
        for k in range(24)
    )  # fmt: skip
    executor.execute(graph)
    assert journal.most_at_once() <= 4


def test_a_chain_that_costs_more_than_the_node_in_sum_runs(executor):
    """Costs are held while running, not claimed for a whole graph up front."""
    functions = [Function(0, [], lambda: 0, cost={"memory": 900})]
    for k in range(1, 6):
        functions.append(Function(k, [k - 1], lambda x: x + 1, cost={"memory": 900}))
    assert executor.execute(Graph(functions))[5] == 5


def test_resources_are_free_when_runs_have_ended_well_or_badly(executor, claimed):
    cost = {"memory": 300, "camera": 1}
    good = Graph(Function(k, [], lambda: 1, cost=cost) for k in range(5))
    bad = Graph(Function(k, [], _bad, cost=cost) for k in range(5))
    for graph in (good, bad):
        executor.execute(graph, raise_on_error=False)
        assert claimed(executor) == {}


def test_a_users_tracker_is_asked_besides(executor, journal):
    class OneAtATime(hd.StaticTracker):
        """Lets a single function run, whatever there is."""

        def request(self, claim, node, req):
            busy = any(self._claims.values())
            return not busy and super().request(claim, node, req)

    def code():
        journal.stamp("begin")
        sum(range(20_000))
        journal.stamp("end")

    with hd.Executor(executor.client, tracker=OneAtATime()) as tracked:
        run = tracked.execute(Graph(Function(k, [], code) for k in range(12)))
    assert (run.progress, journal.most_at_once()) == ((12, 0, 12), 1)
