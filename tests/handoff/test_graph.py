"""Handoff's scenarios of graphs that no other test holds."""

from handout_dask import Function, Graph


# dag_test.exs:125
def test_validates_a_valid_dag():
    graph = Graph()
    graph.add(Function("sum", ["left", ("right", 1)], lambda a, b: a + b))
    graph.add(Function("left", ["source"], abs))
    graph.add(Function("right", ["source"], lambda x: (x, x)))
    graph.add(Function("source", [], int))
    assert graph.validate() is graph
    assert graph.order() == ("source", "left", "right", "sum")
