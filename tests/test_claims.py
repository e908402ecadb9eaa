"""What functions of a live run hold, as declared or as learned."""

from handout_dask import Node
from handout_dask.claims import Claims

SMALL, BIG = Node("small", {"memory": 300}), Node("big", {"memory": 5000})


def made():
    return Claims([0, 1, 0], [{"cpu": 1.0}, {"cpu": 2.0, "memory": 400.0}])


def test_what_is_learned_is_held_from_then_on():
    claims = made()
    claims.raise_memory(0, 250.0, later=False)
    claims.raise_memory(2, 250.0, later=False)
    assert [claims.of(i) for i in range(3)] == [
        {"cpu": 1.0, "memory": 250.0},
        {"cpu": 2.0, "memory": 400.0},
        {"cpu": 1.0, "memory": 250.0},
    ]
    assert len(claims.demand) == 3
    assert claims.need == [2, 1, 2]


def test_no_claim_gets_smaller():
    claims = made()
    claims.raise_memory(1, 100.0, later=False)
    claims.raise_memory(0, 250.0, later=False)
    claims.raise_memory(0, 200.0, later=False)
    assert claims.of(1)["memory"] == 400.0
    assert claims.of(0)["memory"] == 250.0


def test_what_runs_holds_what_it_took_until_it_waits_again():
    claims = made()
    claims.raise_memory(0, 250.0, later=True)
    assert claims.of(0) == {"cpu": 1.0}
    claims.waits_again(0)
    assert claims.of(0) == {"cpu": 1.0, "memory": 250.0}


def test_no_more_is_held_than_the_node_has_unless_it_is_declared():
    claims = made()
    for i in (0, 1):
        claims.raise_memory(i, 900.0, later=False)
    assert [claims.of(0, node)["memory"] for node in (SMALL, BIG)] == [300.0, 900.0]
    assert claims.of(1, SMALL)["memory"] == 400.0
    assert claims.of(0, Node("any"))["memory"] == 900.0
    assert claims.of(2, SMALL) == {"cpu": 1.0}


def test_memory_of_a_gpu_is_claimed_alike_and_beside_that_of_the_host():
    gpu = Node("gpu", {"memory": 1000, "gpus": 1, "gpu_memory": 400})
    claims = Claims([0, 0], [{"cpu": 1.0, "gpu_memory": 100.0}])
    claims.raise_memory(0, 300.0, False, "gpu_memory")
    claims.raise_memory(0, 250.0, later=True)
    claims.waits_again(0)
    assert claims.of(0) == {"cpu": 1.0, "gpu_memory": 300.0, "memory": 250.0}
    claims.raise_memory(1, 250.0, later=False)
    claims.raise_memory(1, 300.0, False, "gpu_memory")
    assert claims.need[0] == claims.need[1]
    claims.raise_memory(1, 900.0, False, "gpu_memory")
    assert claims.of(1)["gpu_memory"] == 900.0
    assert claims.of(1, gpu) == {"cpu": 1.0, "gpu_memory": 400.0, "memory": 250.0}
