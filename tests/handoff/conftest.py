"""A cluster of two nodes, and where results lie; the rest is that of tests/runtime."""

import cloudpickle
import dask
import pytest

import handout_dask as hd
from tests.runtime import conftest as _shared

cloudpickle.register_pickle_by_value(_shared)  # which workers don't know
_by_value, _forked, _quiet = _shared._by_value, _shared._forked, _shared._quiet
gate, journal = _shared.gate, _shared.journal
until, claimed, caught = _shared.until, _shared.claimed, _shared.caught

ROOM = {"cpu": 4, "memory": 2000, "compute": 2}


@pytest.fixture(scope="session")
def pair():
    """Two nodes alike, in this order: the user's own, and another one."""
    return [hd.Node("self", ROOM), hd.Node("node2", ROOM)]


@pytest.fixture(scope="module")
def executor(pair):
    """On worker processes; other executors of a test use its cluster.

    Copies of results stay where they are: Dask's memory manager would end some of
    them within 2 s (2026.8.0).
    """
    stay = {"distributed.scheduler.active-memory-manager.start": False}
    with dask.config.set(stay), hd.Executor(nodes=pair) as executor:
        yield executor


@pytest.fixture(scope="session")
def located():
    """``located(executor, run)``: ``{id: nodes}`` that hold a result, sorted."""

    def located(executor, run):
        token = run.token

        def look(dask_scheduler):
            return {
                key[1]: sorted(str(worker.name) for worker in task.who_has)
                for key, task in dask_scheduler.tasks.items()
                if isinstance(key, tuple) and token in key[0] and task.who_has
                if not key[0].startswith("cut-")
            }

        functions = run.plan.problem.functions
        found = executor.client.run_on_scheduler(look)
        return {functions[i].id: nodes for i, nodes in found.items()}

    return located
