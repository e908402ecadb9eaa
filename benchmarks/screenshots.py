"""Screenshots of pages, reprs and reports at three sizes, for people to look at.

``make screenshots``: real pages on a real dashboard, in a real browser, wide and
narrow; what notebooks show, and reports, on bright and on dark. The runs are simulated,
and shown in the middle and at the end. ``--docs`` makes the two that the README shows.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from distributed import LocalCluster

import handout_dask as hd
from handout_dask.dashboard.install import mount
from handout_dask.dashboard.reprs import html_of
from handout_dask.events import Span
from handout_dask.picture import DONE, READY, RUNNING, WAITING, Picture
from handout_dask.report import Report
from handout_dask.samples import SampleLog
from handout_dask.showing import Summary

SIZES = (3, 300, 30_000)
TABS = ("Plan", "Graph", "Resources", "Runs")
SHOWN = {  # sources that have rows when a tab is ready
    "Plan": ["handout-rows"], "Graph": ["handout-vertices"],
    "Resources": ["handout-measured-rows"], "Runs": ["handout-runs-rows"],
}  # fmt: skip
SCREEN = {"width": 1300, "height": 820}
NARROW = {"width": 960, "height": 700}
README = {"width": 1100, "height": 600}
GROUNDS = {"light": ("#fff", "#000"), "dark": ("#111", "#dedede")}  # as JupyterLab has
PATIENCE = 180_000  # ms
IDLE = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"
ERROR = "ValueError: the lid of jar <b>7</b> was not closed"


def graph_of(n: int) -> hd.Graph:
    """About n functions: parts are read, filtered twice, joined in tens, summed up."""
    rng = np.random.default_rng(7)

    def cost(ms: float, mb: float, out: float) -> dict[str, float]:
        time = float(ms * rng.lognormal(0.0, 0.3))
        return {"cpu_time": time, "memory": mb, "output_size": out}

    if n < 10:
        names = ["read", "filter", "sum"][:n]
        before: list[list[str]] = [[], *([name] for name in names)]
        made = zip(names, before, strict=False)
        return hd.Graph(
            [hd.Function(a, b, cost=cost(900, 300, 40)) for a, b in made], name="small"
        )
    wide = max(n * 10 // 32, 1)
    functions = []
    for i in range(wide):
        functions += [
            hd.Function(f"read-{i}", cost=cost(300, 200, 20), name="read"),
            hd.Function(
                f"blur-{i}", [f"read-{i}"], cost=cost(900, 400, 20), name="blur"
            ),
            hd.Function(
                f"mark-{i}", [f"blur-{i}"], cost=cost(500, 300, 5), name="mark"
            ),
        ]
    joins = range(0, wide, 10)
    for i in joins:
        reads = [f"mark-{k}" for k in range(i, min(i + 10, wide))]
        functions.append(
            hd.Function(f"join-{i}", reads, cost=cost(700, 600, 10), name="join")
        )
    reads = [f"join-{i}" for i in joins]
    functions.append(hd.Function("sum", reads, cost=cost(400, 300, 1), name="sum"))
    return hd.Graph(functions, name="pictures of a night")


def _function(name: str, i: int, reads: str, cost: Any) -> hd.Function:
    return hd.Function(f"{name}-{i}", [f"{reads}-{i}"], cost=cost, name=name)


def nodes() -> list[hd.Node]:
    """Three kinds, ten in all."""
    made = [
        hd.Node(f"big-{j}", {"cpu": 4, "memory": 8000}, speed=1.6, price=0.5)
        for j in range(3)
    ]
    made += [
        hd.Node(f"small-{j}", {"cpu": 2, "memory": 3000}, price=0.15) for j in range(6)
    ]
    return [*made, hd.Node("slow-0", {"cpu": 1, "memory": 2000}, speed=0.6, price=0.05)]


def at_time(plan: hd.Plan, spans: list[Span], now: float | None) -> Picture:
    """The run as it is at a time [s]; None is its end."""
    end = max(span.end for span in spans)
    ended = [span for span in spans if now is None or span.end <= now]
    whole = Report.of(plan, ended)
    made = Picture.of_report(whole, name="3f9a27c1")
    if now is None:
        return replace(made, samples=samples_of(plan, spans, end))
    where = plan.problem.where
    begun = {where[x.function]: x.start for x in spans if x.start <= now < x.end}
    state = np.full(len(made), WAITING, dtype=np.uint8)
    over = np.zeros(len(made), dtype=bool)
    over[[where[span.function] for span in ended if span.outcome == "done"]] = True
    left = np.bincount(made.target[~over[made.source]], minlength=len(made))
    state[left == 0] = READY
    state[over] = DONE
    state[[*begun]] = RUNNING
    return replace(
        made, status="running", now=now, expected=end, state=state, begun=begun,
        samples=samples_of(plan, spans, now),
    )  # fmt: skip


def samples_of(plan: hd.Plan, spans: list[Span], until: float) -> Any:
    """What nodes would have been seen to hold and use."""
    log = SampleLog()
    problem, rng = plan.problem, np.random.default_rng(1)
    names, holds = problem.outline.demand
    need = problem.option_class[problem.option_ptr[:-1] + plan.option]
    start = np.array([span.start for span in spans])
    end = np.array([span.end for span in spans])
    what = need[[problem.where[span.function] for span in spans]]
    on = np.array([problem.cluster.index[span.node] for span in spans])
    for at in np.linspace(0.0, until, 120):
        held = (start <= at) & (at < end)
        rows: dict[str, dict[str, Any]] = {}
        for j, node in enumerate(problem.nodes):
            sums = holds[what[held & (on == j)]].sum(axis=0)
            rows[node.name] = {
                name: (node.capacity(name), used, used * rng.uniform(0.6, 1.02))
                for name, used in zip(names, sums.tolist(), strict=True)
            }
        log.add(float(at), rows)
    return log.samples(0.0)


class Simulated:
    """Pictures of one run."""

    is_live = True

    def __init__(self, picture: Picture | None) -> None:
        self.shown = picture

    def runs(self) -> list[Summary]:
        """The run, if there is one."""
        if self.shown is None:
            return []
        one, counts = self.shown, self.shown.counts
        return [
            Summary(
                one.name, one.title, one.status, len(one), counts["done"],
                counts["running"], counts["failed"], one.retries, one.now, one.makespan,
                one.expected, one.money, one.planned_money,
            )
        ]  # fmt: skip

    def picture(self, name: str) -> Picture | None:
        """The run."""
        return self.shown

    def waits(self, name: str, most: int) -> list[tuple[str, str]]:
        """Some that are ready."""
        assert self.shown is not None
        ready = np.flatnonzero(self.shown.state == READY)[:most].tolist()
        why = (
            "waits for big-0 until 3.2 s: its slots are taken: 'blur-3' (runs on big-0)"
        )
        return [(self.shown.labels[i], why) for i in ready]


def spans_of(plan: hd.Plan) -> list[Span]:
    """What happens, with noise and, in all but the smallest, some failures."""
    spans = [*hd.simulate(plan, noise=0.25, seed=3)]
    if len(spans) < 10:
        return spans
    out = []
    for k, span in enumerate(spans):
        if k % 61 == 60:
            middle = (span.start + span.end) / 2
            out.append(replace(span, end=middle, outcome="failed", error=ERROR))
            span = replace(span, start=middle, attempt=2)
        peak = float(np.random.default_rng(k).uniform(100, 420))
        out.append(
            replace(span, peak_mb=peak, cpu_seconds=0.9 * (span.end - span.start))
        )
    return sorted(out, key=lambda span: span.end)


class Going:
    """A Run, as far as its repr asks it."""

    _client = None

    def __init__(self, picture: Picture) -> None:
        self._shown = picture

    def _picture(self) -> Picture:
        return self._shown


def notebook(things: list[Any], scheme: str) -> str:
    """A page with what a notebook shows of each, one below the other."""
    ground, ink = GROUNDS[scheme]
    shown = "<hr>".join(
        html_of(x) if isinstance(x, Going) else x._repr_html_() for x in things
    )
    style = f"background:{ground};color:{ink};margin:16px;width:928px"
    return f'<meta charset="utf-8"><body style="{style}">{shown}</body>'


def take_file(browser: Any, file: Path, path: Path, scheme: str) -> None:
    """A screenshot of all of a page that is a file."""
    page = browser.new_page(viewport=NARROW, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(file.as_uri())
    if file.name == "report.html":
        page.wait_for_function(IDLE)
    page.wait_for_timeout(1000)
    page.screenshot(path=str(path), full_page=True)
    page.close()
    print(path, f"{path.stat().st_size / 1e3:.0f} kB")


def take(page: Any, url: str, path: Path, tab: str = "") -> None:
    """One screenshot, when the page is at rest."""
    page.goto(url)
    page.wait_for_function(IDLE)
    if tab:
        page.locator(".bk-tab").filter(has_text=tab).first.click()
    for source in SHOWN.get(tab, ()):
        page.wait_for_function(
            f"(Bokeh.documents[0].get_model_by_name('{source}') || {{}}).length > 0"
        )
    page.wait_for_timeout(2500)
    page.screenshot(path=str(path))
    print(path, f"{path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Make them all."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("screenshots"))
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    told = parser.parse_args()
    folder = Path("docs") if told.docs else told.folder
    folder.mkdir(exist_ok=True)
    shown = Simulated(None)
    with (
        LocalCluster(
            n_workers=0, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        sync_playwright() as play,
    ):
        mounted = cluster.sync(_mount, cluster.scheduler, shown)
        port = cluster.scheduler.http_server.port
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        page = browser.new_page(viewport=README if told.docs else SCREEN)
        page.set_default_timeout(PATIENCE)
        url = f"http://127.0.0.1:{port}"
        if told.docs:
            _for_readme(page, url, folder, shown)
        else:
            take(page, f"{url}/handout", folder / "empty.png")
            for n in told.sizes:
                _of_size(browser, page, url, folder, shown, n)
        browser.close()
        cluster.sync(_call, mounted)


async def _mount(scheduler: Any, shown: Simulated) -> Any:
    return mount(scheduler, shown)


async def _call(unmount: Any) -> None:
    unmount()


def _of_size(
    browser: Any, page: Any, url: str, folder: Path, shown: Simulated, n: int
) -> None:
    began = time.perf_counter()
    plan = hd.plan(
        graph_of(n), nodes(), allocator="load-balanced" if n > 9999 else "time"
    )
    spans = spans_of(plan)
    end = max(span.end for span in spans)
    print(f"{n} functions planned in {time.perf_counter() - began:.1f} s")
    for when, now in (("middle", 0.55 * end), ("end", None)):
        made = at_time(plan, spans, now)
        shown.shown = replace(made, name=f"{made.name}{n}{when}")
        for tab in TABS:
            take(page, f"{url}/handout", folder / f"{tab.lower()}-{n}-{when}.png", tab)
        if now is not None:
            page.set_viewport_size(NARROW)
            for tab in TABS:
                path = folder / f"{tab.lower()}-{n}-narrow.png"
                take(page, f"{url}/handout", path, tab)
            page.set_viewport_size(SCREEN)
            going = Going(shown.shown)
    take(page, f"{url}/individual-handout-plan", folder / f"individual-{n}.png")
    report, problem = Report.of(plan, spans), plan.problem
    things = [problem.graph, problem.cluster, plan, going, report]
    things += [x.visualize(show="graph") for x in (plan, report)]
    with TemporaryDirectory() as made:
        reprs, page = Path(made, "reprs.html"), Path(made, "report.html")
        report.write(page)
        for scheme in GROUNDS:
            reprs.write_text(notebook(things, scheme), encoding="utf-8")
            for file in (reprs, page):
                path = folder / f"{file.stem}-{n}-{scheme}.png"
                take_file(browser, file, path, scheme)


def _for_readme(page: Any, url: str, folder: Path, shown: Simulated) -> None:
    some = [node for node in nodes() if node.name[-1] in "01"]
    plan = hd.plan(graph_of(90), some, allocator="time")
    spans = spans_of(plan)
    shown.shown = at_time(plan, spans, 0.62 * max(span.end for span in spans))
    for name in ("plan", "graph"):
        take(page, f"{url}/handout", folder / f"{name}.png", name.title())


if __name__ == "__main__":
    main()
