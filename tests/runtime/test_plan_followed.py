"""Every function runs on the node its plan says, and a node's functions in its order.

So it is without ``adaptive``; with it, that the plan is left only where that may be.
What ran where is asked of the workers: the function itself says on which it runs, and
the worker's own log says in which order it took functions up.
"""

import random
from collections import Counter

import dask
import pytest
from distributed import Client, LocalCluster, get_worker

import handout_dask as hd
from handout_dask import Function, Graph


def seeds(count):
    """The first is quick; the others are for those who have time."""
    slow = pytest.mark.slow
    return [0, *(pytest.param(seed, marks=slow) for seed in range(1, count))]


def _code(*inputs, kb=0):
    """Returns what readers index: a block of bytes and the name of the node."""
    return {"block": bytes(kb * 1000), "node": str(get_worker().name)}


def _function(id, args, rng):
    kb = rng.choice([0, 1, 50, 400])
    cost = {
        "cpu_time": rng.choice([0.5, 1, 2, 5, 20]),
        "output_size": {"block": kb / 1000, "node": 0},
        "memory": rng.choice([1, 100, 400]),
    }
    return Function(id, args, _code, kwargs={"kb": kb}, cost=cost)


def _reads(ids, rng, most):
    chosen = rng.sample(ids, min(len(ids), rng.randint(1, most)))
    return [rng.choice([id, (id, "block"), (id, "block"), (id, "node")])
            for id in chosen]  # fmt: skip


def _layers(rng):
    functions, before = [], []
    for depth in range(6):
        ids = [f"{depth}-{k}" for k in range(rng.randint(4, 14))]
        functions += [
            _function(id, _reads(before, rng, 4) if before else [], rng) for id in ids
        ]
        before = before + ids
    return Graph(functions)


def _fork_join(rng):
    functions = [_function("start", [], rng)]
    last = "start"
    for stage in range(4):
        ids = [f"{stage}-{k}" for k in range(rng.randint(3, 15))]
        functions += [_function(id, _reads([last], rng, 1), rng) for id in ids]
        last = f"join {stage}"
        functions.append(_function(last, [(id, "node") for id in ids], rng))
    return Graph(functions)


def _chains(rng):
    functions = []
    for c in range(7):
        for k in range(rng.randint(3, 12)):
            args = _reads([f"{c}-{k - 1}"], rng, 1) if k else []
            functions.append(_function(f"{c}-{k}", args, rng))
    rng.shuffle(functions)
    return Graph(functions)


ALLOCATORS = ["time", "first-available", "load-balanced", "any"]
SHAPES = {"layers": _layers, "fork-join": _fork_join, "chains": _chains}


class Scattered:
    """A user's allocator: any node, any order; so that much has to cross."""

    def __init__(self, seed):
        self.seed = seed

    def allocate(self, problem):
        rng = random.Random(self.seed)
        names = [node.name for node in problem.nodes]
        nodes = {f.id: rng.choice(names) for f in problem.functions}
        order = [f.id for f in problem.functions]
        rng.shuffle(order)
        return hd.Plan.from_assignment(problem, nodes, order=order)


def _started(dask_worker):
    """Keys in the order in which the worker began to execute them."""
    entries = [e for e in dask_worker.state.log if len(e) == 7 and e[3] == "executing"]
    return str(dask_worker.name), [entry[0] for entry in entries]


def _check(run, starts):
    plan = run.plan
    assert {id: result["node"] for id, result in run.results.items()} == {
        placement.function: placement.node for placement in plan
    }
    assert all(run.where(p.function) == p.node for p in plan)
    functions = plan.problem.functions
    for name, keys in starts.items():
        ran = [functions[key[1]].id for key in keys
               if run.token in key[0] and not key[0].startswith("cut-")]  # fmt: skip
        assert ran == [placement.function for placement in plan.on(name)]


def _run_all(executor, graphs, allocators):
    client = executor.client
    for graph in graphs:
        for allocator in allocators:
            with hd.Executor(client, nodes=executor.declared, adaptive=False,
                             allocator=allocator) as other:  # fmt: skip
                run = other.execute(graph)
                _check(run, dict(client.run(_started).values()))


@pytest.fixture(scope="module")
def strict(three, long_logs):
    with hd.Executor(nodes=three, adaptive=False) as executor:
        yield executor


@pytest.fixture(scope="module")
def singles(long_logs):
    nodes = [hd.Node(f"s{j}", {"cpu": 1}, speed=1 + j / 2) for j in range(3)]
    with hd.Executor(nodes=nodes, adaptive=False) as executor:
        yield executor


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_on_nodes_of_one_slot_the_plan_is_followed_exactly(
    singles, shape, seed, allocator
):
    graph = SHAPES[shape](random.Random(seed))
    if allocator == "any":
        allocator = Scattered(seed)
    _run_all(singles, [graph], [allocator])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("allocator", ["time", "load-balanced", "any"])
def test_on_nodes_of_several_slots_functions_start_in_planned_order(
    strict, shape, allocator
):
    """The order in which a worker's event loop hands functions to its threads."""
    graph = SHAPES[shape](random.Random(7))
    if allocator == "any":
        allocator = Scattered(7)
    _run_all(strict, [graph], [allocator])


@pytest.mark.parametrize("chosen", [(3,), pytest.param((3, 4), marks=pytest.mark.slow)])
def test_runs_beside_each_other_follow_each_its_own_plan(strict, chosen):
    client = strict.client
    with hd.Executor(
        client, nodes=strict.declared, allocator=Scattered(1), adaptive=False
    ) as other:
        graphs = [make(random.Random(seed)) for seed in chosen
                  for make in SHAPES.values()]  # fmt: skip
        runs = [use.submit(graph) for graph in graphs for use in (strict, other)]
        for run in runs:
            run.wait(60)
        starts = dict(client.run(_started).values())
        for run in runs:
            _check(run, starts)


def test_spans_tell_the_same_as_the_plan(strict):
    run = strict.execute(_layers(random.Random(5)))
    assert {(s.function, s.node, s.attempt, s.outcome) for s in run.spans} == {
        (p.function, p.node, 1, "done") for p in run.plan
    }
    assert len(run.spans) == len(run.plan)


def _validate(client):
    """Check Dask's invariants, in the event loop, where nothing changes meanwhile."""
    client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.validate_state())


@pytest.fixture(scope="module")
def validated(long_logs):
    """A cluster in this process that checks Dask's invariants at every transition."""
    checks = {
        "distributed.scheduler.validate": True,
        "distributed.worker.validate": True,
    }
    with (
        dask.config.set(checks),
        LocalCluster(
            n_workers=3,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert cluster.scheduler.validate
        assert all(w.state.validate for w in cluster.workers.values())
        yield client
        _validate(client)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", seeds(3))
def test_the_schedulers_invariants_hold_at_every_transition(validated, shape, seed):
    graph = SHAPES[shape](random.Random(seed))
    for allocator in ("time", Scattered(seed)):
        with hd.Executor(validated, allocator=allocator, adaptive=False) as executor:
            runs = [executor.submit(graph) for _ in range(2)]
            for run in runs:
                run.wait(60)
            _validate(validated)
            starts = dict(validated.run(_started).values())
            for run in runs:
                _check(run, starts)
            for worker in validated.cluster.workers.values():
                worker.validate_state()


def test_invariants_hold_when_functions_fail_are_retried_and_cancelled(validated):
    def sometimes(*inputs, rng=random):
        if rng.random() < 0.15:
            raise ValueError("again")
        return {"block": b"", "node": ""}

    retry = hd.RetryPolicy(attempts=3)
    with hd.Executor(
        validated, retry=retry, allocator=Scattered(0), adaptive=False
    ) as executor:
        for seed in range(3):
            graph = _layers(random.Random(seed))
            graph = Graph(Function(f.id, f.args, sometimes, cost=f.cost) for f in graph)
            runs = [executor.submit(graph, keep=k) for k in ("all", "sinks", [])]
            runs[seed % 3].cancel()
            for run in runs:
                run.wait(60)
            kept = runs[0]  # of the others some functions need not run
            assert sum(kept.progress[:2]) == len(kept) or kept.status == "cancelled"
            _validate(validated)


def test_a_plan_whose_reader_starts_a_hair_before_its_input_runs():
    """Times in plans are floats; an order by them alone could wait for itself."""

    class Hair:
        def allocate(self, problem):
            plan = hd.plan(Graph(problem.functions), problem.cluster)
            n = len(plan)
            start = [1e-10 * (n - i) for i in range(n)]
            return hd.Plan(problem, [0] * n, [0] * n, start, start)

    functions = [Function(0, [], lambda: 0, cost={"cpu_time": 0})]
    for k in range(1, 5):
        function = Function(k, [k - 1], lambda x: x + 1, cost={"cpu_time": 0})
        functions.append(function)
    nodes = [hd.Node("n0", {"cpu": 1})]  # where nothing was learned yet
    with hd.Executor(nodes=nodes, allocator=Hair(), adaptive=False) as executor:
        run = executor.submit(Graph(functions))
        run.wait(20)
    assert run.progress == (5, 0, 5)


# --------------------------------------------------------------- leaving the plan
def _exactly(run, graph):
    """A run that has left its plan where it liked has done all of it, once."""
    assert (run.status, run.progress) == ("done", (len(graph), 0, len(graph)))
    spans = [(s.function, s.attempt, s.outcome) for s in run.spans]
    assert sorted(spans) == sorted((f.id, 1, "done") for f in graph)
    where = {s.function: s.node for s in run.spans}
    assert {id: result["node"] for id, result in run.results.items()} == where
    assert all(run.where(f.id) == where[f.id] for f in graph)
    return where


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", seeds(2))
def test_runs_that_may_leave_their_plans_end_exactly(validated, shape, seed):
    """Several at once, on a scheduler that checks itself, of plans good and bad."""
    scheduler = validated.cluster.scheduler
    graph = SHAPES[shape](random.Random(seed))
    with (
        hd.Executor(validated) as good,
        hd.Executor(validated, allocator=Scattered(seed)) as bad,
        hd.Executor(validated, allocator=Scattered(seed), adaptive=False) as strict,
    ):
        runs = [
            use.submit(graph, priority=k % 2, weight=1 + k)
            for k, use in enumerate((good, bad, strict, good, bad))
        ]
        for run in runs:
            run.wait(60)
            _exactly(run, graph)
        _check(runs[2], dict(validated.run(_started).values()))
        scheduler.validate_state()
        for worker in validated.cluster.workers.values():
            worker.validate_state()


def test_pins_and_groups_hold_when_plans_are_left(validated):
    names = [str(w.name) for w in validated.cluster.workers.values()]
    rng = random.Random(3)
    functions, bound = [], {}
    for f in _layers(rng):
        leads = f.id in ("0-0", "0-1", "0-2")
        node = names[1] if f.id == "0-0" else None
        if not leads:
            mates = hd.with_function(f"0-{rng.randrange(3)}")
            node = bound[f.id] = rng.choice([mates, None, rng.choice(names)])
        cost = {"cpu_time": rng.choice([0.1, 10, 3000])}  # far from what it takes
        functions.append(
            Function(f.id, f.args, f.code, kwargs=f.kwargs, node=node, cost=cost)
        )
    graph = Graph(functions)
    with hd.Executor(validated) as executor:
        runs = [executor.submit(graph) for _ in range(3)]
        for run in runs:
            run.wait(60)
            where = _exactly(run, graph)
            assert where["0-0"] == names[1]
            for id, node in bound.items():
                if node is not None:
                    on = node if isinstance(node, str) else where[node.id]
                    assert where[id] == on
    validated.cluster.scheduler.validate_state()


def test_nothing_starts_that_does_not_fit_when_plans_are_left(validated, journal):
    """Of what all hold, the sum is never more than their node has."""
    room = {"cpu": 2, "memory": 1000, "licence": 2}
    names = [str(w.name) for w in validated.cluster.workers.values()]
    nodes = [hd.Node(name, room) for name in names]

    def code(*inputs, holds):
        name = get_worker().name
        journal.stamp("begin", name, *holds)
        journal.stamp("end", name, *holds)
        return {"block": b"", "node": str(name)}

    rng = random.Random(5)
    functions = []
    for f in _layers(rng):
        holds = rng.choice([1, 2]), rng.choice([100, 400, 700]), rng.choice([0, 1, 2])
        cost = dict(zip(room, holds, strict=True))
        cost["cpu_time"] = rng.choice([0.1, 10, 3000])
        functions.append(Function(f.id, f.args, code, kwargs={"holds": holds},
                                  cost=cost))  # fmt: skip
    graph = Graph(functions)
    with hd.Executor(validated, nodes=nodes) as executor:
        runs = [executor.submit(graph, priority=k % 2) for k in range(3)]
        for run in runs:
            run.wait(60)
            _exactly(run, graph)
    events = sorted(journal.lines(), key=lambda line: float(line.split()[0]))
    assert len(events) == 2 * len(runs) * len(graph)
    held = {name: Counter() for name in names}
    for line in events:
        _, what, name, *holds = line.split()
        change = dict(zip(room, map(int, holds), strict=True))
        held[name].update(change) if what == "begin" else held[name].subtract(change)
        assert all(held[name][resource] <= most for resource, most in room.items())
    assert not any(any(left.values()) for left in held.values())
