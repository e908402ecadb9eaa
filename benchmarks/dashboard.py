"""What our page costs the scheduler while 10,000 functions run, tab by tab.

For each tab a run of its own, with the page open in a real browser from its beginning:
the share of the scheduler's loop that renewing and sending takes (CPU time of its
thread, and time by the clock, both of all that holds a document's lock), and how many
bytes go to the browser in a second after the first load. One more run has its page
opened late, and one has none, to compare.

    python -m benchmarks.dashboard [--functions 10000] [--ms 40] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
import types
from collections.abc import Coroutine, Generator
from datetime import date
from pathlib import Path
from typing import Any

import bokeh
import distributed
from bokeh.server.session import ServerSession

import handout_dask as hd

TABS = ("Plan", "Graph", "Resources", "Runs")
MOST_SHARE, MOST_BYTES = 0.05, 50_000.0
SETTLED = 3.0  # s after the page was at rest, from which on bytes count
IDLE = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"


class Meter:
    """Time that pages take of the scheduler's thread, by its CPU and by the clock."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.longest = 0.0
        locked = ServerSession.with_document_locked

        def metered(session: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
            return self._step(locked(session, func, *args, **kwargs))

        ServerSession.with_document_locked = metered

    @types.coroutine
    def _step(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Go on with it, and count how long it takes each time."""
        sent = None
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                waits = work.send(sent)
            except StopIteration as end:
                return end.value
            finally:
                took = time.perf_counter() - wall
                self.wall += took
                self.cpu += time.thread_time() - cpu
                self.longest = max(self.longest, took)
            sent = yield waits


class Wire:
    """Bytes that come to the browser by websocket."""

    def __init__(self, page: Any) -> None:
        self.bytes = 0
        page.on("websocket", self._opened)

    def _opened(self, socket: Any) -> None:
        socket.on("framereceived", self._received)

    def _received(self, frame: Any) -> None:
        self.bytes += len(frame.encode() if isinstance(frame, str) else frame)


def graph_of(n: int, ms: float) -> hd.Graph:
    """Chains of three functions of three names, and one that reads all ends."""

    def work(*_: Any) -> int:
        time.sleep(ms / 1e3)
        return 1

    cost = {"cpu_time": ms, "memory": 5, "output_size": 0.001}
    functions = []
    for i in range(n):
        reads = [f"step-{i - 1}"] if i % 3 else []
        name = ("load", "filter", "sum")[i % 3]
        functions.append(hd.Function(f"step-{i}", reads, work, cost=cost, name=name))
    return hd.Graph(functions, name="many")


def loop_cpu() -> float:
    """CPU seconds of the thread that this is called in."""
    return time.thread_time()


def measure(
    executor: hd.Executor, browser: Any, meter: Meter, graph: hd.Graph, tab: str,
    late: bool,
) -> dict[str, Any]:  # fmt: skip
    """One run with the page open on a tab; "" is without a page."""
    base = executor.dashboard_link.removesuffix("/status")
    page = browser.new_page(viewport={"width": 1300, "height": 820})
    wire = Wire(page)
    errors: list[str] = []
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    n, out = len(graph), {"tab": tab or "none", "late": late}

    def look() -> None:
        began = time.perf_counter()
        page.goto(f"{base}/handout")
        page.wait_for_function(IDLE, timeout=120_000)
        page.locator(".bk-tab").filter(has_text=tab).first.click()
        page.wait_for_timeout(1000 * SETTLED)
        out["first_load_s"] = round(time.perf_counter() - began - SETTLED, 2)
        out["first_load_kB"] = round(wire.bytes / 1e3)

    def cpu() -> float:
        return float(executor.client.run_on_scheduler(loop_cpu))

    if tab and not late:
        look()
    began, loop = time.perf_counter(), cpu()
    meter.longest = 0.0
    run = executor.submit(graph)
    if tab and late:
        while run.progress.done < n // 2:
            page.wait_for_timeout(200)
        look()
        told = page.evaluate(
            "Bokeh.documents[0].get_model_by_name('handout-headline').text"
        )
        out["done_when_opened"], out["headline"] = run.progress.done, told
    elif tab:
        page.wait_for_timeout(1000 * SETTLED)  # the plan is sent
    since, bytes_, spent, wall = time.perf_counter(), wire.bytes, meter.cpu, meter.wall
    begun = cpu()
    while run.status in ("pending", "running"):
        page.wait_for_timeout(250)
    took = time.perf_counter() - since
    used = cpu() - begun
    out |= {
        "run_s": round(time.perf_counter() - began, 2),
        "loop_cpu_s": round(cpu() - loop, 2),
        "measured_s": round(took, 2),
        "pages_cpu_s": round(meter.cpu - spent, 3),
        "share_of_time": round((meter.cpu - spent) / took, 4),
        "share_of_clock": round((meter.wall - wall) / took, 4),
        "share_of_loop_cpu": round((meter.cpu - spent) / max(used, 1e-9), 4),
        "longest_ms": round(1e3 * meter.longest, 1),
        "bytes_per_s": round((wire.bytes - bytes_) / took),
        "status": run.status,
        "console_errors": errors,
    }
    run.release()
    page.close()
    print(json.dumps(out), flush=True)
    return out


def main() -> None:
    """Measure all tabs, and say whether the goals are met."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--ms", type=float, default=40.0)
    parser.add_argument("--tabs", nargs="*", default=TABS)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    meter = Meter()
    graph = graph_of(told.functions, told.ms)
    nodes = [hd.Node(f"n{j}", {"cpu": 8, "memory": 4000}, price=1.0) for j in range(2)]
    with (
        hd.Executor(nodes=nodes, allocator="load-balanced") as executor,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        rows = [measure(executor, browser, meter, graph, "", False)]
        rows += [measure(executor, browser, meter, graph, x, False) for x in told.tabs]
        rows.append(measure(executor, browser, meter, graph, told.tabs[0], True))
        browser.close()
    seen = rows[1:]
    result = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "distributed": distributed.__version__,
        "bokeh": bokeh.__version__,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "functions": told.functions,
        "ms": told.ms,
        "rows": rows,
        "goals": {
            "share_of_time": max(row["share_of_time"] for row in seen) <= MOST_SHARE,
            "bytes_per_s": max(row["bytes_per_s"] for row in seen) <= MOST_BYTES,
            "no console errors": not any(row["console_errors"] for row in seen),
        },
    }
    print(json.dumps(result, indent=1))
    if told.out:
        told.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
