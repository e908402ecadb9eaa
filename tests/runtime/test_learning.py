"""What executors learn: across runs, across restarts, and within a run."""

import numpy as np
import pytest

import handout_dask as hd
from handout_dask import Function, Graph, Node
from handout_dask.allocators.revision import revise, stand_of
from handout_dask.books import DONE, READY
from handout_dask.dispatch import Dispatcher
from handout_dask.errors import HandoutError
from handout_dask.history import History
from handout_dask.plans import plan
from handout_dask.runtime.learner import Learner
from handout_dask.runtime.lower import lower
from handout_dask.runtime.measuring import Measures
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.submission import Turn, run_spec
from handout_dask.tracker import StaticTracker

MB = 1_000_000
SINGLE = [Node("n0", {"cpu": 1, "memory": 1000})]


# ------------------------------------------------------------------- without a cluster
def live(functions, nodes, where):
    """A run as the scheduler has it, and the books."""
    graph = Graph(functions)
    made = hd.Plan.from_assignment(plan(graph, nodes).problem, where)
    books = Dispatcher(StaticTracker())
    for node in nodes:
        books.set_node(node)
    lowered = lower(graph, "t", node=made.node.tolist(), option=made.option.tolist())
    spec = run_spec(made, lowered, "t", Turn(0, 1.0))
    return LiveRun(spec, books.add_run(spec), "me"), books


def about(peak=None, nbytes=None, exact=True, alone=True):
    measures = [*Measures(None, peak, exact, None, None, alone)]
    return {"nbytes": nbytes, "metadata": {"handout": measures}}


TWO = [
    Node("small", {"cpu": 1, "memory": 500}),
    Node("big", {"cpu": 1, "memory": 4000}),
]


def alike(n=4, **cost):
    return [Function(f"f{k}", [], max, name="f", cost=cost) for k in range(n)]


def claimed(run, n=4):
    return [run.book.demand(i).get("memory", 0.0) for i in range(n)]


def test_what_waits_claims_what_others_of_its_name_were_seen_to_take():
    run, books = live(alike(memory=100), TWO, {f"f{k}": "small" for k in range(4)})
    learner, node = Learner(), TWO[0]
    books.ended("t", 0, DONE, 1.0)
    assert not learner.took(run, 0, node, 1.0, about(90.0))
    assert learner.memory(run, books.nodes) is None
    assert learner.took(run, 0, node, 1.0, about(700.0))
    assert claimed(run) == [100.0] + [750.0] * 3
    assert run.book.demand(1, node)["memory"] == 500.0  # all that the node has
    assert learner.memory(run, books.nodes).tolist() == [100.0] + [750.0] * 3
    assert not learner.took(run, 0, node, 1.0, about(700.0))  # is known


def test_an_estimate_of_functions_that_ran_together_raises_nothing():
    run, books = live(alike(), TWO, {f"f{k}": "small" for k in range(4)})
    learner = Learner()
    books.ended("t", 0, DONE, 1.0)
    assert not learner.took(run, 0, TWO[0], 1.0, about(300.0, exact=False, alone=False))
    assert claimed(run) == [0.0] * 4
    assert learner.took(run, 0, TWO[0], 1.0, about(300.0, exact=False))
    assert claimed(run) == [0.0, 330.0, 330.0, 330.0]


def test_what_was_sent_claims_more_only_when_it_is_sent_again():
    run, books = live(alike(), TWO, {f"f{k}": "small" for k in range(4)})
    for i in range(4):
        books.ready("t", i)
    (sent,) = books.next("small", lambda *_: 0.0)
    learner = Learner()
    learner.took(run, 3, TWO[0], 1.0, about(100.0))
    mine = [0.0 if i == sent.i else 110.0 for i in range(4)]
    assert claimed(run) == mine
    assert learner.memory(run, books.nodes).tolist() == mine
    books.waiting("t", sent.i)
    assert claimed(run) == [110.0] * 4
    assert books.tracker.snapshot()["small"]["memory"][1] == 0.0
    learner.took(run, 3, TWO[0], 1.0, about(900.0))
    books.ready("t", sent.i)
    (sent,) = books.next("small", lambda *_: 0.0)
    assert books.tracker.snapshot()["small"]["memory"][1] == 500.0  # all there is
    now = [500.0 if i == sent.i else 1000.0 for i in range(4)]
    assert learner.memory(run, books.nodes).tolist() == now


def test_planning_again_knows_memory_sizes_and_times_of_what_has_not_run():
    functions = [
        *alike(),
        Function("end", ["f2", "f3"], max, name="end", cost={"cpu_time": 100}),
    ]
    where = {**{f"f{k}": "small" for k in range(4)}, "end": "big"}
    run, books = live(functions, TWO, where)
    learner, outline = Learner(), run.spec.outline
    books.ended("t", 0, DONE, 1.0)
    learner.took(run, 0, TWO[0], 3.0, about(900.0, nbytes=25 * MB))
    assert learner.sizes(run).tolist() == pytest.approx([25.0, 25.0])
    chosen = outline.option_ptr[:-1]
    assert learner.work(run, chosen)[:4] == pytest.approx([3.0] * 4)
    memory = learner.memory(run, books.nodes)
    for i in range(1, 4):
        assert run.book.state[i] != READY
    made = revise(
        outline,
        np.zeros(5, dtype=int),
        stand_of(run.book, 1.0),
        hd.Cluster(TWO),
        work=learner.work(run, chosen),
        mb=learner.sizes(run),
        memory=memory,
    )
    assert made.node[1:4] == ["big"] * 3
    gone = revise(  # without the large node they fit again
        outline,
        np.zeros(5, dtype=int),
        stand_of(run.book, 1.0),
        hd.Cluster(TWO[:1]),
        memory=memory,
    )
    assert np.isfinite(gone.end).all()


def test_a_run_brings_what_its_client_knows():
    run, books = live(alike(), TWO, {f"f{k}": "small" for k in range(4)})
    known = History()
    known.observe("f", "f0", "k", 7.0, memory=50.0)
    learner = Learner()
    learner.history.observe("f", "f1", "k", 2.0)
    object.__setattr__(run.spec, "known", known)
    learner.meet(run)
    assert learner.history.seconds("f", "f0") == pytest.approx(7.0)
    assert learner.history.seconds("f", "f1") == pytest.approx(2.0)
    assert learner.history.names["f"].work.count == 1  # its own


# ---------------------------------------------------------------------- on a cluster
def heavy(mb):
    return len(b"x" * (mb * MB)) and bytes(MB)


def nothing_declared():
    functions = [
        Function(f"h{k}", [], heavy, extra_args=[120], name="heavy") for k in range(3)
    ]
    return Graph([*functions, Function("end", [f.id for f in functions], max)])


def learned(made):
    assert not made.guessed.any()
    at = made.problem.outline.demand[0].index("memory")
    names = [f.id for f in made.problem.functions]
    need = made.problem.outline.demand[1][made.problem.option_class, at]
    memory = dict(zip(names, need.tolist(), strict=True))
    assert [*made.provenance("h1").values()] == ["learned"] * 3
    assert all(120 <= memory[f"h{k}"] <= 180 for k in range(3))
    assert made.problem.pred_mb == pytest.approx([1.0] * 3, rel=0.01)
    return memory


def test_second_run_is_planned_with_what_the_first_took_and_so_is_one_after_a_restart(
    tmp_path,
):
    path = tmp_path / "history.json"
    with hd.Executor(nodes=SINGLE, history=path) as executor:
        first = executor.plan(nothing_declared())
        assert first.guessed.all()
        assert first.provenance("h1")["memory"] == "guessed"
        executor.execute(nothing_declared()).release()
        memory = learned(executor.plan(nothing_declared()))
    with hd.Executor(nodes=SINGLE, history=str(path)) as executor:
        assert learned(executor.plan(nothing_declared())) == memory
        executor.execute(nothing_declared()).release()
        assert executor.history.labels["heavy", "h0"].count == 2
    with hd.Executor(nodes=SINGLE, history=f"file://{path}") as executor:
        learned(executor.plan(nothing_declared()))
        assert executor.history.labels["heavy", "h0"].count == 2


def test_functions_that_wait_claim_what_the_first_was_seen_to_take(gate, claimed):
    call = gate.call()

    def first():
        return len(b"x" * (200 * MB))

    def rest(_, k):
        return call(f"r{k}")

    functions = [Function("first", [], first, name="f", cost={"memory": 20})]
    functions += [
        Function(
            f"r{k}", ["first"], rest, extra_args=[k], name="f", cost={"memory": 20}
        )
        for k in range(4)
    ]
    node = Node("n", {"cpu": 4, "memory": 500})
    with hd.Executor(nodes=[node]) as executor:
        run = executor.submit(Graph(functions))
        gate.arrivals(2)
        assert gate.nobody()
        (taken,) = {v for (n, r), v in claimed(executor).items() if r == "memory"}
        assert 400 <= taken <= 500
        gate.let()
        gate.arrivals(2)
        gate.let()
        run.wait(60)
        assert run.status == "done"


def test_a_history_of_the_users_is_learned_into_and_used():
    history = History()
    history.observe("heavy", "h0", "k", 2.5)
    with hd.Executor(nodes=SINGLE, history=history) as executor:
        made = executor.plan(nothing_declared())
        assert made["h0"].end - made["h0"].start == pytest.approx(2.5, abs=0.1)
        executor.execute(nothing_declared()).release()
    assert history.labels["heavy", "h0"].count == 2


def test_a_file_that_is_no_history_is_refused_when_it_is_needed_and_kept(
    tmp_path, caught
):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n")
    with hd.Executor(nodes=SINGLE, history=path) as executor:
        error = caught(HandoutError, executor.execute, nothing_declared())
    assert "mine.csv' is no history" in str(error)
    assert path.read_text() == "a,b\n"


def test_a_history_that_can_t_be_saved_is_a_warning_and_lost_only_in_the_end(tmp_path):
    path = tmp_path / "history.json"
    executor = hd.Executor(nodes=SINGLE, history=path)
    executor.plan(nothing_declared())
    path.write_text("mine now")
    run = executor.execute(nothing_declared())
    assert run.status == "done"
    assert executor.history.knows(["heavy"])
    with pytest.warns(UserWarning, match=r"not saved: .*history\.json' is no history"):
        executor.close()
    assert path.read_text() == "mine now"
