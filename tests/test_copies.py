"""What goes to a device and leaves it is planned for."""

import numpy as np

from handout_dask import Cluster, Function, Graph, Node, Problem
from handout_dask.copies import DEVICE, HOST, with_copies

NODES = Cluster(
    [Node("cpu"), Node("gpu", {"gpus": 1, "has_cuda": True}, gpu_speed=4, speed=2)]
)
CUDA = {"gpus": 1, "gpu_time": 100, "output_size": 80}


def seconds(timeout=None, **about):
    """Of each function on the node with a device, with copies and without."""
    functions = [
        Function("a", [], cost={"cpu_time": 100, "output_size": 800}),
        Function("b", ["a"], cost=CUDA | about.pop("cost", {}), **about),
    ]
    problem = Problem(Graph(functions), NODES)
    out = with_copies(problem, timeout=timeout)
    j = NODES.index["gpu"]
    return np.array([[p.time(i, j) for i in range(2)] for p in (out, problem)])


def test_what_a_cuda_function_reads_and_returns_goes_through_the_host():
    found = seconds(timeout=10)
    np.testing.assert_allclose(found[0] - found[1], [0, 880 / HOST])


def test_what_both_run_on_a_device_stays_there_and_the_rest_is_copied_once():
    cpu = {"cpu_time": 100, "output_size": 600}
    functions = [
        Function("read", [], cost=cpu),
        Function("first", ["read"], cost=CUDA),
        Function("second", ["first", "read"], cost=[cpu, CUDA]),
        Function("x", ["second"], cost=cpu),
        Function("y", ["second"], cost=cpu),
        Function("last", ["first", "second"], cost=CUDA),
    ]
    problem = Problem(Graph(functions), NODES)
    out = with_copies(problem)
    more = (out.option_work - problem.option_work) / 4  # the device's speed
    added = dict.fromkeys(range(7), 0.0) | {1: 600 / DEVICE, 3: 1200 / DEVICE}
    np.testing.assert_allclose(more, [*added.values()])
    none = Problem(Graph([Function("a", cost=cpu)]), NODES)
    assert with_copies(none) is none
