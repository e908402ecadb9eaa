"""What users of Dask ask for, on worker processes: what is free counts, and waits.

Plain Dask compares a demand with a node's total: what is impossible waits for ever, all
that needs a GPU is sent to it at once, some of it beside an idle one, and a node of
1000 MB is booked to 4800 (2026.8.0). Here each has to come out right ten times of ten.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

import handout_dask as hd
from handout_dask import Function, Graph

TIMES = range(10)
ALLOCATORS = ["first-available", "load-balanced", "time"]
GPU_NODE = {"cpu": 4, "memory": 1000, "gpus": 1, "GPU": 1, "MEM": 1000, "compute": 2}


@pytest.fixture(scope="module")
def executor():
    """Two nodes with a GPU each, and one of a single core and many threads."""
    nodes = [hd.Node(name, GPU_NODE) for name in ("g0", "g1")]
    nodes.append(hd.Node("thin", {"cpu": 1, "memory": 1000, "thin": True}, slots=12))
    with hd.Executor(nodes=nodes) as executor:
        yield executor


@pytest.fixture
def by(executor):
    """``by(allocator)``: another executor on the cluster, by a client of its own."""
    made = []

    def by(allocator):
        client = Client(executor.client.scheduler.address, set_as_default=False)
        made.append(hd.Executor(client, allocator=allocator, nodes=executor.declared))
        return made[-1]

    yield by
    for each in made:
        each.close()
        each.client.close()


class Watch(SchedulerPlugin):
    """Looks at the books, and at what was sent, whenever a task changes its state."""

    name = "watch"

    def start(self, scheduler):
        self.scheduler = scheduler
        self.sent = {}  # most at once, by node
        self.claimed = {}  # most at once, by (node, resource)
        self.over = []  # claims above the capacity

    def transition(self, key, start, finish, *args, **kwargs):
        for ws in self.scheduler.workers.values():
            name, count = str(ws.name), len(ws.processing)
            self.sent[name] = max(count, self.sent.get(name, 0))
        tracker = self.scheduler.plugins["handout"].dispatcher.tracker
        for node, rows in tracker.snapshot().items():
            for resource, (capacity, claimed, _) in rows.items():
                at = node, resource
                self.claimed[at] = max(claimed, self.claimed.get(at, 0))
                if claimed > capacity:
                    self.over.append((*at, claimed, capacity))


@pytest.fixture
def watch(executor):
    """``watch()``: most that was sent and claimed at once, and what was over-booked."""

    async def begin(dask_scheduler):
        watching = Watch()
        watching.start(dask_scheduler)
        dask_scheduler.add_plugin(watching)

    def look(dask_scheduler):
        watching = dask_scheduler.plugins["watch"]
        return watching.sent, watching.claimed, watching.over

    client = executor.client
    client.run_on_scheduler(begin)
    yield lambda: client.run_on_scheduler(look)
    client.run_on_scheduler(
        lambda dask_scheduler: dask_scheduler.remove_plugin("watch")
    )


def _timed(journal):
    def code():
        journal.stamp("begin")
        sum(range(20_000))
        journal.stamp("end")

    return code


def _calls(call, names, cost, **options):
    return Graph(
        [Function(n, [], call, extra_args=[n], cost=cost, **options) for n in names]
    )


# ---------------------------------------------------------------- E1: the impossible
@pytest.mark.parametrize("resource", ["GPU", "gpus"])
def test_e1_more_than_any_node_has_is_refused_at_once_with_the_reasons(
    executor, journal, caught, resource
):
    code = _timed(journal)
    graph = Graph(
        [
            Function("small", [], code, cost={resource: 1}),
            Function("big", ["small"], code, cost={resource: 2}),
        ]
    )
    for _ in TIMES:
        error = caught(hd.UnsatisfiableError, executor.submit, graph)
        assert str(error) == (
            f"function 'big' fits on no node: g0, g1 lacks {resource} (needs 2, has "
            f"1); thin lacks {resource} (needs 2, has 0). Lower its cost or add a node."
        )
        lacks = {
            node: [(lack.resource, lack.need, lack.has) for lack in why]
            for node, why in error.refusals["big"].items()
        }
        has = {"g0": 1.0, "g1": 1.0, "thin": 0.0}
        assert lacks == {n: [(resource, 2.0, most)] for n, most in has.items()}
    assert journal.lines() == []  # nothing of the graph ran


# ------------------------------------------------------------- E2a: one at a time
@pytest.mark.parametrize("resource", ["GPU", "gpus"])
def test_e2a_of_twelve_that_need_a_gpu_one_is_sent_at_a_time(
    executor, journal, watch, resource
):
    graph = Graph(
        Function(k, [], _timed(journal), node="g0", cost={resource: 1, "cpu_time": 1})
        for k in range(12)
    )
    for _ in TIMES:
        executor.execute(graph)
    sent, claimed, over = watch()
    assert (sent["g0"], claimed["g0", resource], over) == (1, 1.0, [])
    assert (len(journal.lines()), journal.most_at_once()) == (2 * 12 * 10, 1)


# ------------------------------------------------- E2b: beside an idle GPU none waits
@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "not declared"])
def test_e2b_none_waits_behind_a_busy_gpu_beside_an_idle_one(
    executor, by, gate, allocator, declared
):
    """Ten times: the long one is held until the others have ended."""
    call = gate.call()
    long, tiny = ({"cpu_time": 6000}, {"cpu_time": 10}) if declared else ({}, {})
    one, other = by(allocator), by(allocator)
    for k in TIMES:
        busy, idle = ("g0", "g1") if k % 2 else ("g1", "g0")
        held = one.submit(_calls(call, ["long"], {"gpus": 1, **long}, node=busy))
        assert gate.arrivals(1) == ["long"]
        graph = Graph(Function(i, [], int, cost={"gpus": 1, **tiny}) for i in range(4))
        run = other.submit(graph).wait(30)
        assert {run.where(i) for i in range(4)} == {idle}
        assert held.progress == (0, 0, 1)
        gate.let()
        assert held["long"] == "long"


# ------------------------------------------------------ E2d: memory is what is free
@pytest.mark.parametrize("resource", ["MEM", "memory"])
def test_e2d_of_eight_of_600_mb_one_runs_at_a_time_on_1000_mb(
    executor, journal, watch, resource
):
    graph = Graph(
        Function(k, [], _timed(journal), node="g0", cost={resource: 600, "cpu_time": 1})
        for k in range(8)
    )
    for _ in TIMES:
        executor.execute(graph)
    sent, claimed, over = watch()
    assert (sent["g0"], claimed["g0", resource], over) == (1, 600.0, [])
    assert (len(journal.lines()), journal.most_at_once()) == (2 * 8 * 10, 1)


# ---------------------------------------------------- Handoff's: 4 runs, 2 per node
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_four_runs_at_once_are_two_on_each_node(executor, by, gate, watch, allocator):
    """Of two executors, submitted by four threads; ten times."""
    call, use = gate.call(), [by(allocator), by(allocator)]
    names = list("abcd")
    with ThreadPoolExecutor(4) as pool:
        for _ in TIMES:
            graphs = [
                _calls(call, [n], {"compute": 1, "cpu_time": 1000}) for n in names
            ]
            runs = list(
                pool.map(lambda x: x[0].submit(x[1]), zip(use * 2, graphs, strict=True))
            )
            assert gate.arrivals(4) == names
            gate.let()
            assert [run[n] for run, n in zip(runs, names, strict=True)] == names
            where = [run.where(n) for run, n in zip(runs, names, strict=True)]
            assert sorted(where) == ["g0", "g0", "g1", "g1"]
    _, claimed, over = watch()
    assert (claimed["g0", "compute"], claimed["g1", "compute"], over) == (2, 2, [])


# -------------------------------------------------------------------------- cores
def test_a_function_of_four_cores_takes_four_of_a_node(executor, gate, watch):
    call = gate.call()
    for _ in TIMES:
        run = executor.submit(_calls(call, ["wide"], {"cpu": 4}, node="g0"))
        assert gate.arrivals(1) == ["wide"]
        other = executor.submit(_calls(call, ["thin"], {"cpu": 1}, node="g0"))
        # However long it takes, as here a run on the other node:
        executor.execute(Graph([Function("beside", [], int, node="g1")]))
        assert gate.nobody()
        gate.let()
        assert (run["wide"], gate.arrivals(1)) == ("wide", ["thin"])
        gate.let()
        assert other["thin"] == "thin"
    assert watch()[0]["g0"] == 1


def test_wide_functions_share_the_cores_that_there_are(executor, journal):
    """Of 4 and 1 and 2 cores on a node of 4, by what each says of itself."""
    cores = [4, 1, 2, 1, 3, 1, 2, 1]

    def code(cpu):
        for _ in range(cpu):
            journal.stamp("begin")
        sum(range(20_000))
        for _ in range(cpu):
            journal.stamp("end")

    graph = Graph(
        Function(k, [], code, extra_args=[n], node="g1", cost={"cpu": n})
        for k, n in enumerate(cores)
    )
    for _ in TIMES:
        executor.execute(graph)
    assert len(journal.lines()) == 2 * 10 * sum(cores)
    assert 2 <= journal.most_at_once() <= 4


def test_ten_functions_of_a_tenth_of_a_core_run_at_once_on_one(executor, gate, watch):
    call, names = gate.call(), [f"f{k:02}" for k in range(11)]
    for _ in TIMES:
        run = executor.submit(_calls(call, names, {"cpu": 0.1}, node="thin"))
        first = gate.arrivals(10)
        executor.execute(Graph([Function("beside", [], int, node="g1")]))
        assert gate.nobody()
        gate.let()
        assert sorted(first + gate.arrivals(1)) == names
        gate.let()
        assert sorted(run.wait(30).results) == names
    sent, claimed, over = watch()
    assert (sent["thin"], claimed["thin", "cpu"], over) == (10, pytest.approx(1), [])
