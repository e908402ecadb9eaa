"""Nobody who needs a small revision at once waits for kernels."""

import threading

from handout_dask.allocators import warming


def test_kernels_are_loaded_beside_and_used_as_soon_as_they_are_there(monkeypatch):
    let, loads = threading.Event(), []

    def load():
        loads.append(threading.current_thread().name)
        let.wait(30)

    monkeypatch.setattr(warming, "load", load)
    warming._loading.cache_clear()
    try:
        assert [warming.path_for(10) for _ in range(3)] == ["numpy"] * 3
        assert warming.path_for(warming.SMALL + 1) == "compiled"
        let.set()
        warming._loading().result(30)
        assert warming.path_for(10) == "compiled"
        assert len(loads) == 1
        assert loads[0].startswith("handout-kernels")
    finally:
        let.set()
        warming._loading.cache_clear()


def test_what_is_loaded_is_what_revisions_need():
    warming.load()
