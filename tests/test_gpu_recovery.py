"""What a function that ran out of GPU memory gets next."""

from handout_dask.recovery import Recovery
from handout_dask.retry import RetryPolicy
from handout_dask.setbacks import Again, Attempt, Fault, GiveUp, Tried

USED = Fault("exhausted", (), "", "gpu_memory", 150.0, 100.0)


def tried(claim, most, number=1, attempts=3):
    policy = RetryPolicy(memory_attempts=attempts)
    attempt = Attempt(number, "g0", 9.0, 10.0)
    return Tried(
        ("run", 0), "'f'", policy, attempt, gpu_claim=claim, gpu_most=most, most=5.0
    )


def test_it_claims_more_of_a_device_and_goes_elsewhere_if_it_can():
    recovery = Recovery()
    (again,) = recovery.failed(tried(100.0, 400.0), USED, 10.0)
    assert isinstance(again, Again)
    assert (again.gpu_memory, again.memory, again.avoid) == (300.0, None, ("g0",))
    full = Fault("exhausted", (), "", "gpu_memory", 350.0, 300.0)
    (again,) = recovery.failed(tried(300.0, 400.0, 2), full, 10.0)
    assert again.gpu_memory == 400.0
    (decision,) = recovery.failed(tried(400.0, 400.0, 3), full, 10.0)
    assert isinstance(decision, GiveUp)


def test_where_no_device_has_more_it_is_tried_as_it_is():
    (again,) = Recovery().failed(tried(400.0, 400.0), USED, 10.0)
    assert isinstance(again, Again)
    assert again.gpu_memory is None
