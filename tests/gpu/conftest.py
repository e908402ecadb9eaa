"""What tests on a real GPU share; without one, or without CuPy, they are skipped."""

from importlib.util import find_spec

import pytest

from handout_dask.runtime.cuda import visible_devices


def why_not():
    """Why these tests can't run here; "" if they can."""
    if find_spec("cupy") is None:
        return "CuPy is not installed"
    if not visible_devices():
        return "no NVIDIA GPU is visible here"
    return ""


def pytest_collection_modifyitems(items):
    here = [item for item in items if item.get_closest_marker("gpu")]
    reason = why_not() if here else ""
    if reason:
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def device():
    return visible_devices()[0]
