"""Row R16: random graphs on clusters that are broken at random, by seed.

Four seeds among the slow tests; ``make chaos SEEDS=200`` plays more, from ``FIRST`` on.
"""

import os
from contextlib import ExitStack

import pytest

from benchmarks.breaking import chaos, chaotic
from benchmarks.breaking.netns import why_not

FIRST = int(os.environ.get("CHAOS_FIRST", "0"))
KINDS = ("adopted", "owned")  # for even and odd seeds
SEEDS = int(os.environ.get("CHAOS_SEEDS", "4"))
MINE = range(FIRST, FIRST + SEEDS)


@pytest.fixture(scope="module")
def cluster(request):
    """Real processes, two of them on hosts of their own where these can be made."""
    with ExitStack() as stack:
        yield chaotic.cluster(request.param, not why_not(), stack)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("cluster", "seed"),
    [(kind, seed) for kind in KINDS for seed in MINE if kind == KINDS[seed % 2]],
    indirect=["cluster"],
)
def test_all_is_exact_or_a_precise_error_that_is_due(cluster, seed, tmp_path):
    script = chaos.script(seed, network=cluster.hosts is not None)
    broken, log = chaotic.play(script, cluster, str(tmp_path))
    assert not broken, chaotic.told(script, broken, log)


def test_a_seed_says_all():
    assert chaos.script(3) == chaos.script(3)
    assert chaos.script(3) != chaos.script(4)


def test_what_must_fail_is_what_fails_and_all_that_reads_it():
    for seed in range(50):
        script = chaos.script(seed, functions=60)
        failing = script.must_fail()
        for task in script.tasks:
            own = task.kind in (chaos.FAILS, chaos.NEVER)
            reads = any(u in failing for u in task.producers)
            assert (task.id in failing) == (own or reads)
            assert task.kind != chaos.RAISES or task.times < task.attempts
        assert set(script.answers()) == {t.id for t in script.tasks} - set(failing)
