"""Pages: documents of our pages; which run they show, and how often they are renewed.

Read-only: a viewer chooses what to look at, and changes nothing. However many pages are
open, renewing them takes no more than a small share of the scheduler's time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import InlineStyleSheet, Select, TabPanel, Tabs

from handout_dask.dashboard.columns import headline
from handout_dask.dashboard.graphpage import GraphPart
from handout_dask.dashboard.part import Part, line_of_text
from handout_dask.dashboard.planpage import PlanPart
from handout_dask.dashboard.resourcespage import ResourcesPart
from handout_dask.dashboard.runspage import RunsPart
from handout_dask.dashboard.scene import Scene
from handout_dask.picture import Picture
from handout_dask.showing import Pictures

logger = logging.getLogger(__name__)

TICK = 250  # ms between looks whether a page is to be renewed
OFTEN = 1.0  # s after which it is at the earliest
SHARE = 0.02  # of the scheduler's time that renewing all pages may take
SELDOM = 3.0  # s; that seldom they are renewed at most
HEADER = 44  # px
BELOW = "@media (max-width: 1020px) { :host { padding-top: 46px; } }"
LATEST = ""  # what is chosen: the latest run, whichever that is
NOTHING = (
    "No run yet. When an Executor submits a graph, its plan is shown here, and what "
    "becomes of it."
)
GONE = "The last executor has left this scheduler: nothing here changes any more."
MAKING = "Run {name} is being made ready to be shown ..."
PARTS: tuple[type[Part], ...] = (PlanPart, GraphPart, ResourcesPart, RunsPart)


class Pages:
    """Makes documents.

    Parameters
    ----------
    pictures : Pictures
        What there is to be shown.
    dress : callable
        ``dress(doc, extra)`` lets a page look as Dask's own.

    Attributes
    ----------
    single : dict of str to callable
        What makes the page of each part alone.
    """

    def __init__(self, pictures: Pictures, dress: Callable[[Any, Any], None]) -> None:
        self.pictures, self._dress = pictures, dress
        self.single = {one.name: partial(self._open, [one]) for one in PARTS}
        self.open: set[Page] = set()
        self._scenes: dict[str, Future[Scene]] = {}
        self._pool = ThreadPoolExecutor(1, "handout-scene")

    def whole(self, scheduler: Any, extra: Any, doc: Any) -> None:
        """A document with all parts in tabs."""
        self._dress(doc, extra)
        self._open(PARTS, scheduler, extra, doc)

    def _open(
        self, parts: Sequence[type[Part]], scheduler: Any, extra: Any, doc: Any
    ) -> None:
        page = Page(self, doc, parts)
        self.open.add(page)
        doc.on_session_destroyed(lambda context: self.open.discard(page))

    def scene(self, picture: Picture) -> Scene | None:
        """What all pages draw of a run alike; None if it is not yet made."""
        made = self._scenes.get(picture.name)
        if made is None:
            if not self.pictures.is_live:
                return None
            known = {run.name for run in self.pictures.runs()}
            for name in self._scenes.keys() - known:
                del self._scenes[name]
            made = self._scenes[picture.name] = self._pool.submit(Scene, picture)
        return made.result() if made.done() and not made.cancelled() else None

    def stop(self) -> None:
        """Nothing changes any more; pages that are open say so."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for page in self.open:
            page.end()


class Page:
    """One open page: a headline, and a part or several in tabs."""

    def __init__(self, pages: Pages, doc: Any, kinds: Sequence[type[Part]]) -> None:
        self._pages, self._doc, self._kinds = pages, doc, kinds
        self._parts: dict[int, Part] = {0: kinds[0]()}  # others when first looked at
        self._shown: dict[int, str] = {}  # by part: which run
        self._next, self._cost = 0.0, 0.0
        self._choice = Select(
            name="handout-run", options=[(LATEST, "the latest run")], value=LATEST,
            width=260, margin=(8, 5, 0, 5),
        )  # fmt: skip
        self._choice.on_change("value", lambda attr, old, new: self._renew())
        self._line = line_of_text(
            NOTHING, name="handout-headline", margin=(10, 10, 0, 10),
            sizing_mode="stretch_width",
        )  # fmt: skip
        head = row(
            self._choice, self._line, sizing_mode="stretch_width", min_height=HEADER
        )  # which is higher where there is no room for the line beside the choice
        body: Any = self._parts[0].root
        self._tabs = None
        if len(kinds) > 1:
            self._places = [column(sizing_mode="stretch_both") for _ in kinds]
            self._places[0].children = [body]
            panels = [
                TabPanel(child=place, title=kind.name.title())
                for place, kind in zip(self._places, kinds, strict=True)
            ]
            body = self._tabs = Tabs(tabs=panels, sizing_mode="stretch_both")
            self._tabs.on_change("active", lambda attr, old, new: self._renew())
        doc.title = "Dask: Handout"
        root = column(head, body, sizing_mode="stretch_both")
        if len(kinds) > 1:  # below Dask's bar, which may have a second line
            root.stylesheets = [InlineStyleSheet(css=BELOW)]
        doc.add_root(root)
        self._timer = doc.add_periodic_callback(self._tick, TICK)
        self._renew()

    def end(self) -> None:
        """Say that nothing changes any more, and look no more."""
        self._doc.add_next_tick_callback(self._close)

    def _close(self) -> None:
        self._doc.remove_periodic_callback(self._timer)
        self._renew()

    def _tick(self) -> None:
        if perf_counter() >= self._next:
            self._renew()

    def _renew(self) -> None:
        began = perf_counter()
        try:
            ready = self._update()
        except Exception:  # it would come again and again
            self._next = float("inf")
            self._line.text = (
                "This page can't be renewed; the scheduler's log says why."
            )
            logger.exception("A page of handout_dask can't be renewed")
            return
        now = perf_counter()
        self._cost += 0.5 * (now - began - self._cost)
        rest = self._cost * len(self._pages.open) / SHARE
        self._next = now + (min(max(OFTEN, rest), SELDOM) if ready else 0.0)

    # ------------------------------------------------------------------- updating
    def _update(self) -> bool:
        """Show what is new; whether there was what is to be shown."""
        pictures = self._pages.pictures
        active = 0 if self._tabs is None else int(self._tabs.active)
        part = self._part(active)
        names = self._offer(pictures)
        name = self._choice.value if self._choice.value in names else (names or [""])[0]
        if not names:
            self._say(NOTHING if pictures.is_live else GONE)
            return True
        picture = pictures.picture(name)
        scene = None if picture is None else self._pages.scene(picture)
        if picture is None or scene is None:
            if pictures.is_live:
                self._say(MAKING.format(name=name))
                return False
            self._say(GONE)
            part.clear()
            self._shown.pop(active, None)
            return True
        self._say(f"{'' if pictures.is_live else f'{GONE}  '}{headline(picture)}")
        if self._shown.get(active) != name:
            part.begin(scene, picture)
            self._shown[active] = name
        part.update(scene, picture, pictures)
        return True

    def _part(self, at: int) -> Part:
        if at not in self._parts:
            self._parts[at] = self._kinds[at]()
            self._places[at].children = [self._parts[at].root]
        return self._parts[at]

    def _offer(self, pictures: Pictures) -> list[str]:
        """The runs that can be chosen, the latest first."""
        runs = pictures.runs()
        options = [(LATEST, "the latest run")]
        options += [(x.name, f"{x.name}  {x.title}") for x in runs]
        if self._choice.options != options:
            self._choice.options = options
        return [x.name for x in runs]

    def _say(self, text: str) -> None:
        if self._line.text != text:
            self._line.text = text
