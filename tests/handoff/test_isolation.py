"""Handoff's scenarios of runs at once that no other test holds."""

from distributed import get_worker

from handout_dask import Function, Graph


# concurrent_execution_test.exs:107
def test_executes_two_dags_concurrently_with_locations_of_each(executor, gate, located):
    """Ids are alike; code, values and nodes are not."""
    call = gate.call()

    def graph(mark, first, second):
        def start():
            call(mark)
            return mark, str(get_worker().name)

        return Graph(
            [
                Function("source", [], start, node=first),
                Function("end", [("source", 0)], lambda x: [x, mark], node=second),
            ]
        )

    nodes = {"one": ("self", "node2"), "two": ("node2", "self")}
    runs = {mark: executor.submit(graph(mark, *where)) for mark, where in nodes.items()}
    assert gate.arrivals(2) == ["one", "two"]  # both are under way
    gate.let()
    for mark, (first, second) in nodes.items():
        run = runs[mark].wait(30)
        assert dict(run.results) == {"source": (mark, first), "end": [mark, mark]}
        assert (run.where("source"), run.where("end")) == (first, second)
        assert located(executor, run) == {"source": [first], "end": [second]}
