"""A tracker of the user's that refuses for ever is an error, not a hang."""

import dask
import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime.refusing import CONFIG, PATIENCE, patience

pytestmark = pytest.mark.slow


class Refuses:
    """Refuses what asks for a licence, on every node, always."""

    def register(self, node, capabilities):
        pass

    def available(self, node, req):
        return "licence" not in req

    def request(self, claim, node, req):
        return "licence" not in req

    def release(self, claim, part=None):
        pass

    def snapshot(self):
        return {}


@pytest.fixture(scope="module")
def licensed():
    nodes = [hd.Node("n0", {"cpu": 2, "licence": 1}), hd.Node("n1", {"cpu": 2})]
    with (
        dask.config.set({CONFIG: "1.5s"}),
        hd.Executor(nodes=nodes, tracker=Refuses()) as executor,
    ):
        yield executor


def graph(*more):
    wants = {"cost": {"licence": 1}}
    return Graph(
        [
            Function("plain", [], lambda: 1),
            Function("wants", ["plain"], lambda x: x, **wants),
            Function("reads", ["wants"], lambda x: x),
            *more,
        ]
    )


def test_it_is_an_error_that_names_tracker_function_and_node(licensed, caught):
    run = licensed.submit(graph())
    assert run.wait(60).progress == (1, 2, 3)
    error = caught(hd.AllocationError, lambda: run["wants"])
    for what in ("function 'wants'", "tracker Refuses", "'n0'", CONFIG):
        assert what in str(error)
    assert run["plain"] == 1
    assert caught(hd.FunctionError, lambda: run["reads"]).__cause__ is not None


def test_meanwhile_it_is_explained_and_what_runs_keeps_it_waiting(licensed, gate):
    run = licensed.submit(graph(Function("runs", [], gate.call(), extra_args=["runs"])))
    gate.arrivals(1)
    assert run["plain"] == 1
    with pytest.raises(TimeoutError):
        run.wait(3)  # twice as long as it may refuse, while nothing runs
    assert "the tracker Refuses refuses" in str(run.explain("wants"))
    gate.let()
    assert run.wait(60).progress == (2, 2, 4)


def test_by_default_it_may_for_a_minute():
    with dask.config.set({CONFIG: PATIENCE}):
        assert patience() == 60.0
    with dask.config.set({CONFIG: "2 minutes"}):
        assert patience() == 120.0
