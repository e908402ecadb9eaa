"""Laws of ordinary Dask collections under an allocator: placed by cost, else Dask's."""

import os
import pickle
import signal

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import (
    Client,
    Event,
    LocalCluster,
    get_client,
    get_worker,
    secede,
    wait,
)

import handout_dask as hd
from handout_dask.errors import CostError, HandoutError, UnsatisfiableError

NODES = [
    hd.Node("0", {"cpu": 1, "memory": 1000}),
    hd.Node("1", {"cpu": 1, "memory": 4000, "camera": 1}),
    hd.Node("2", {"cpu": 1, "memory": 1000}, speed=4),
]
LIMIT = 30


def where(*_):
    return str(get_worker().name)


def inc(x):
    return x + 1


def add(*xs):
    return sum(xs)


def fail(x):
    raise ValueError(x)


def call(gate, name, *_):
    gate(name)
    return name, str(get_worker().name)


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.scheduler.validate": True}),
        LocalCluster(
            n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
    ):
        assert cluster.scheduler.validate
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client
        assert not [task for task in cluster.scheduler.tasks.values() if parked(task)]


def parked(task):
    return task.state == "no-worker" and task.worker_restrictions == {
        "handout://parked"
    }


def plugins(cluster):
    return {name for name in cluster.scheduler.plugins if name.startswith("handout")}


def runs(cluster):
    return cluster.scheduler.plugins["handout"].runs


@pytest.fixture
def installed(client):
    with hd.install(client, nodes=NODES) as installed:
        yield installed


@pytest.fixture
def learning(client):
    with hd.install(client, nodes=NODES, uncosted="learn") as installed:
        yield installed


# ------------------------------------------------------------------------ placement
@pytest.mark.parametrize(
    ("cost", "node"), [({"memory": 2000}, "1"), ({"camera": 1}, "1")]
)
def test_tasks_run_where_their_cost_can_be_met(installed, cost, node):
    with hd.cost(**cost):
        tasks = [dask.delayed(where, pure=False)(k) for k in range(6)]
    assert dask.compute(*tasks) == (node,) * 6


def test_a_declared_fast_node_is_preferred(installed, client):
    for k in range(5):
        with hd.cost(cpu_time=1000):
            assert client.submit(where, k, pure=False).result(LIMIT) == "2"


def test_demand_is_held_while_a_task_runs(installed, client, gate):
    with hd.cost(camera=1):
        futures = client.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
    for _ in range(3):
        assert len(gate.arrivals(1)) == 1
        assert gate.nobody()
        gate.let()
    assert [name for name, _ in client.gather(futures)] == ["a", "b", "c"]


def test_a_cost_around_compute_is_of_all_tasks(installed):
    tasks = [dask.delayed(where, pure=False)(k) for k in range(4)]
    with hd.cost(camera=1):
        assert dask.compute(*tasks) == ("1",) * 4


def place(block):
    return block * 0 + int(get_worker().name)


def test_costs_of_array_operations_survive_its_optimisation(installed):
    x = da.arange(24, chunks=4)
    with hd.cost(memory=2000):
        y = x.map_blocks(place, dtype=x.dtype, meta=x._meta)
    assert (y[2:-2] * 2).compute().tolist() == [2] * 20
    assert (y.persist() + 0).compute().tolist() == [1] * 24


def test_costs_survive_a_fusion_of_delayed_that_a_user_has_switched_on(installed):
    with hd.cost(camera=1):
        first = dask.delayed(where, pure=False)()
    with dask.config.set({"optimization.fuse.delayed": True}):
        assert dask.delayed(str, pure=False)(first).compute() == "1"


def test_bags_keep_their_costs(installed):
    bag = pytest.importorskip("dask.bag")
    with hd.cost(camera=1):
        names = bag.from_sequence(range(6), npartitions=3).map(where)
    assert names.compute() == ["1"] * 6


def test_a_costed_delayed_keeps_its_cost_as_an_argument(installed):
    with hd.cost(camera=1):
        first = dask.delayed(where, pure=False)()
    names = dask.delayed(lambda *xs: xs, pure=False)(first, [first, {"x": first}])
    assert names.compute() == ("1", ["1", {"x": "1"}])


def test_alternatives_of_a_graph_as_a_collection_are_planned(installed):
    graph = hd.Graph(
        [
            hd.Function("a", [], where, cost={"camera": 1}),
            hd.Function("b", ["a"], lambda a: (a, where()), cost={"memory": 3000}),
        ]
    )
    assert graph.compute() == {"a": "1", "b": ("1", "1")}


# -------------------------------------------------------------------------- results
@pytest.mark.parametrize("uncosted", ["leave", "learn"])
def test_results_are_exact_and_in_order(client, uncosted):
    with hd.install(client, nodes=NODES, uncosted=uncosted):
        for cost in ({}, {"cpu_time": 5, "memory": 100}):
            with hd.cost(**cost) if cost else dask.annotate():
                x = da.random.default_rng(0).random((40, 40), chunks=10)
                y = (x @ x.T + x).rechunk((20, 8)).cumsum(axis=0)
                futures = client.map(inc, range(50), pure=False)
                total = client.submit(add, *futures, pure=False)
                d = [dask.delayed(inc)(k) for k in range(50)]
                assert client.gather(futures) == list(range(1, 51))
                assert total.result(LIMIT) == 1275
                assert dask.compute(*d) == tuple(range(1, 51))
                assert np.allclose(y.compute(), y.compute(scheduler="sync"))


def test_data_at_hand_draw_their_readers(client, installed, cluster):
    slow = cluster.workers[0].address
    (data,) = client.scatter([np.ones(1_000_000)], workers=[slow])
    with hd.cost(cpu_time=1):
        near = client.submit(where, data, pure=False)
        assert near.result(LIMIT) == "0"
    with hd.cost(cpu_time=10_000):
        assert client.submit(where, data, pure=False).result(LIMIT) == "2"


def test_nothing_waits_behind_a_task_that_waits_for_dasks_own(installed):
    """Costed, uncosted and costed again, on one node."""
    with hd.cost(camera=1, cpu_time=1000):
        first = [dask.delayed(inc, pure=False)(k) for k in range(12)]
    between = dask.delayed(add, pure=False)(*first)
    with hd.cost(camera=1, cpu_time=100_000):
        last = dask.delayed(inc, pure=False)(between)
    assert last.compute() == 79


# ------------------------------------------------------------- uncosted, and others
def test_uncosted_tasks_are_left_to_dask(installed, client, cluster, gate):
    futures = client.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
    assert gate.arrivals(3) == ["a", "b", "c"]
    assert not runs(cluster)
    gate.let()
    wait(futures)


def test_uncosted_tasks_are_planned_and_learned(learning, client, cluster, gate):
    future = client.submit(call, gate.call(), "a", pure=False)
    assert gate.arrivals(1) == ["a"]
    assert len(runs(cluster)) == 1
    gate.let()
    wait(future)
    history = cluster.scheduler.plugins["handout"].replanner.history
    assert history.seconds("call") > 0


def test_short_tasks_without_cost_are_left_to_dask_once_known(
    learning, client, cluster
):
    assert client.gather(client.map(inc, range(60), pure=False))
    spared = cluster.scheduler.plugins["handout-adopter"]._spared
    future = client.submit(inc, 1, pure=False)
    assert future.result(LIMIT) == 2
    history = cluster.scheduler.plugins["handout"].replanner.history
    assert history.seconds("inc") < 0.005
    assert not spared._tasks


def test_a_client_that_has_not_installed_is_left_alone(learning, cluster, gate):
    with Client(cluster, set_as_default=False) as other, hd.cost(camera=1):
        futures = other.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
        assert gate.arrivals(3) == ["a", "b", "c"]  # the camera is nobody's
        assert not runs(cluster)
        gate.let()
        wait(futures)


def test_what_a_user_has_bound_is_left_to_dask(learning, client, cluster):
    with dask.annotate(workers=[cluster.workers[0].address]), hd.cost(camera=1):
        assert client.submit(where, pure=False).result(LIMIT) == "0"


def test_a_task_that_secedes_gives_back_its_node(learning, client, gate):
    code = gate.call()

    def outer(name):
        secede()
        return code(name)

    futures = client.map(outer, "abcdef", pure=False)
    assert gate.arrivals(6) == [*"abcdef"]
    gate.let()
    assert client.gather(futures) == [*"abcdef"]


def test_tasks_may_submit_tasks(learning, client):
    def outer(k):
        inner = get_client().map(inc, range(k, k + 5), pure=False)
        secede()
        return sum(get_client().gather(inner))

    futures = client.map(outer, range(6), pure=False)
    assert client.gather(futures) == [5 * k + 15 for k in range(6)]


# ------------------------------------------------------------------ what goes wrong
def test_what_can_run_nowhere_fails_and_says_why(installed, client, caught):
    with hd.cost(memory=9000):
        big = dask.delayed(inc, pure=False)(1)
    with hd.cost(camera=1):
        good = client.submit(where, pure=False)
    error = caught(UnsatisfiableError, dask.delayed(inc)(big).compute)
    assert "0, 2 lacks memory (needs 9000 MB, has 1000)" in str(error)
    assert good.result(LIMIT) == "1"


def test_a_waiting_task_that_can_run_nowhere_fails_at_once(installed, client, gate):
    first = client.submit(call, gate.call(), "a", pure=False)
    assert gate.arrivals(1) == ["a"]
    with hd.cost(memory=9000):
        second = client.submit(inc, first, pure=False)
    assert isinstance(second.exception(LIMIT), UnsatisfiableError)
    assert gate.nobody()
    gate.let()
    wait(first)


def test_errors_reach_dependents_and_are_retried_as_by_dask(learning, client):
    bad = client.submit(fail, 3, pure=False, retries=2)
    after = client.submit(inc, bad, pure=False)
    assert isinstance(after.exception(LIMIT), ValueError)
    bad.retry()
    assert isinstance(bad.exception(LIMIT), ValueError)


def test_what_is_cancelled_does_not_run(learning, client, cluster, gate, until):
    with hd.cost(camera=1):
        futures = client.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
    (name,) = gate.arrivals(1)
    rest = [f for f, other in zip(futures, "abc", strict=True) if other != name]
    client.cancel(rest)
    until(client, lambda scheduler: len(scheduler.tasks) == 1)
    gate.let()
    until(client, lambda scheduler: not scheduler.plugins["handout"].runs)
    assert gate.nobody()
    assert client.submit(inc, 1, pure=False).result(LIMIT) == 2


def test_a_lost_result_is_computed_where_it_can_be(client):
    """Also after its run has ended."""
    with hd.install(client, nodes=NODES), hd.cost(camera=1):
        future = client.submit(where, pure=False)
        assert future.result(LIMIT) == "1"

        def lose(key, dask_scheduler):
            dask_scheduler.transitions({key: "released"}, "test")

        client.run_on_scheduler(lose, future.key)
        assert client.submit(lambda x: x, future, pure=False).result(LIMIT) == "1"


@pytest.mark.slow
def test_all_runs_although_a_worker_is_killed():
    with (
        dask.config.set({"distributed.scheduler.validate": True}),
        LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
        hd.install(client, uncosted="learn"),
    ):
        event = Event("begun", client=client)

        def square(k):
            if k == 40:
                Event("begun").set()
            return k * k

        futures = client.map(square, range(400), pure=False)
        more = client.map(inc, futures, pure=False)
        assert event.wait(LIMIT)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        assert client.gather(more) == [k * k + 1 for k in range(400)]


def test_restart_leaves_nothing_behind(gate):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
        hd.install(client, uncosted="learn"),
    ):
        futures = client.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
        gate.arrivals(1)
        client.restart()
        assert not runs(cluster)
        assert [f.status for f in futures] == ["cancelled"] * 3
        assert client.submit(inc, 1, pure=False).result(LIMIT) == 2


# ---------------------------------------------------------------- begin and end
def test_closing_gives_what_is_left_to_dask(client, cluster, gate, until):
    with hd.install(client, nodes=NODES) as installed, hd.cost(camera=1):
        futures = client.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
        first = gate.arrivals(1)
        installed.close()
        assert sorted(first + gate.arrivals(2)) == ["a", "b", "c"]
        gate.let()
        assert [name for name, _ in client.gather(futures)] == ["a", "b", "c"]
    until(client, lambda scheduler: "handout" not in scheduler.plugins)
    assert plugins(cluster) == set()
    assert not any(op.startswith("handout") for op in cluster.scheduler.handlers)
    assert dask.config.get("array_optimize", None) is None


def test_a_client_that_is_gone_takes_its_tasks_along(cluster, gate, until):
    with Client(cluster, set_as_default=False) as other:
        client = Client(cluster, set_as_default=False)
        hd.install(client, nodes=NODES)
        with hd.cost(camera=1):
            futures = client.map(call, [gate.call()] * 3, ["a", "b", "c"], pure=False)
        gate.arrivals(1)
        assert len(futures) == 3
        client.close()
        gate.let()
        until(other, lambda scheduler: "handout" not in scheduler.plugins)
        until(other, lambda scheduler: not scheduler.tasks)


def test_a_second_install_changes_the_first(client, cluster):
    with hd.install(client, uncosted="learn") as first:
        again = hd.install(client, "load-balanced", nodes=NODES)
        assert again is first
        assert repr(again.allocator) == "LoadBalanced()"
        with hd.cost(camera=1):
            assert client.submit(where, pure=False).result(LIMIT) == "1"
        assert len(cluster.scheduler.plugins["handout"].owners) == 1
    assert plugins(cluster) == set()


def test_executors_and_collections_share_the_books(client, cluster, gate):
    with (
        hd.install(client, nodes=NODES),
        hd.Executor(client, nodes=NODES) as executor,
        hd.cost(camera=1),
    ):
        future = client.submit(call, gate.call(), "dask", pure=False)
        gate.arrivals(1)
        code = gate.call()
        run = executor.submit(
            hd.Graph(
                [hd.Function("ours", [], lambda: code("ours"), cost={"camera": 1})]
            )
        )
        assert gate.nobody()
        gate.let()
        assert gate.arrivals(1) == ["ours"]
        gate.let()
        assert run["ours"] == "ours"
        assert future.result(LIMIT) == ("dask", "1")


def test_an_asynchronous_client_awaits(cluster):
    import asyncio

    async def main():
        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            installed = await hd.install(client, nodes=NODES)
            with hd.cost(camera=1):
                name = await client.submit(where, pure=False)
            await installed.close()
            return name

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == "1"
    assert plugins(cluster) == set()


# --------------------------------------------------------------------------- cost
@pytest.mark.parametrize(
    "entries", [{"memory": -1}, {"memory": "4 parsecs"}, {"code": print}, {"cpu": True}]
)
def test_a_senseless_cost_is_an_error_at_once(entries, caught):
    caught(CostError, hd.cost, entries)


def test_an_inner_cost_adds_to_an_outer_one():
    with hd.cost(memory="1 GB", cpu_time=5), hd.cost(cpu_time=None, camera=1):
        told = dask.get_annotations()["handout"]["cost"]
    assert told == {"memory": 1000.0, "camera": 1.0}
    assert dask.get_annotations() == {}


class Odd:
    def allocate(self, problem):
        raise AssertionError

    def __reduce__(self):
        raise TypeError("no")


class Wrong:
    def allocate(self, problem):
        raise RuntimeError("wrong")


def test_bad_settings_are_errors_at_once(client, cluster, caught):
    assert "learn" in str(caught(HandoutError, hd.install, client, uncosted="both"))
    assert "Client" in str(caught(HandoutError, hd.install, cluster))
    assert "pickled" in str(caught(HandoutError, hd.install, client, Odd()))
    caught(hd.AllocationError, hd.install, client, "fastest")
    assert plugins(cluster) == set()


def test_where_planning_fails_dask_goes_on(client):
    with hd.install(client, Wrong(), nodes=NODES), hd.cost(memory=10):
        assert client.gather(client.map(inc, range(5), pure=False)) == [1, 2, 3, 4, 5]


def test_costs_are_plain_so_that_they_travel():
    with hd.cost(output_size={"a": 1, "b": "2 MB"}, has_cuda_requirement=True):
        told = dask.get_annotations()
    assert pickle.loads(pickle.dumps(told)) == told
    assert told["handout"]["cost"]["output_size"] == 3.0
