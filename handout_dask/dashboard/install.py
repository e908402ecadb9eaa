"""Mount our pages on the dashboard of a scheduler that runs, and take them away.

The only file that touches the internals of Dask's dashboard; the seams here:

* ``Scheduler.http_application.applications`` gets a second Bokeh application, next to
  Dask's own, from which it has prefix and origins.
* ``distributed.dashboard.scheduler.template_variables`` has what stands in the bar, and
  under "More...", of all pages.
* ``individual-plots.json`` lists pages of Dask's own application only (2026.8.0), so a
  handler before it adds ours; for JupyterLab's dask-labextension.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop

from handout_dask.showing import Pictures

logger = logging.getLogger(__name__)

NAV = "handout"  # where the page is, and, with a capital letter, what the bar says


def mount(scheduler: Any, pictures: Pictures) -> Callable[[], None]:
    """Show pages of runs on a scheduler's dashboard, if it has one.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        It may have been started without a dashboard, or without Bokeh.
    pictures : Pictures
        What the pages ask for what they show.

    Returns
    -------
    callable
        Takes the pages away. Nothing is raised: no run fails for a page.
    """
    try:
        return _mounted(scheduler, pictures)
    except Exception:
        logger.warning("The dashboard shows no page of handout_dask", exc_info=True)
        return _nothing


def _nothing() -> None:
    """There is no page to take away."""


def _mounted(scheduler: Any, pictures: Pictures) -> Callable[[], None]:
    http: Any = getattr(scheduler, "http_application", None)
    apps: Any = getattr(http, "applications", ())
    core = next((app for app in apps if hasattr(app, "app_paths")), None)
    if core is None or f"/{NAV}" in core.app_paths:
        return _nothing
    # Only now, for Bokeh is there where there is a dashboard.
    from distributed.dashboard.components.scheduler import env
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables

    from handout_dask.dashboard.pages import Pages

    def dress(doc: Any, extra: Any) -> None:
        """Let a page look as Dask's own do, with the bar on top."""
        doc.template = env.get_template("simple.html")
        doc.template_variables.update(extra)

    pages = Pages(pictures, dress)
    routes = {f"/{NAV}": pages.whole}
    routes |= {f"/individual-{NAV}-{name}": doc for name, doc in pages.single.items()}
    variables = template_variables(scheduler)
    app = BokehApplication(
        routes, scheduler, prefix=core.prefix, template_variables=variables
    )
    app._websocket_origins = core._websocket_origins  # which may have been restricted
    # After Dask's own: with `dask scheduler --jupyter` the last one answers all.
    apps.insert(apps.index(core) + 1, app)
    app.initialize(IOLoop.current())
    app.start()
    plots = [
        {"url": url[1:], "name": f"Handout {name.title()}"}
        for url, name in zip([*routes][1:], pages.single, strict=True)
    ]
    variables["pages"][-1:-1] = [NAV]  # lists that all pages share
    variables["plots"] += plots
    rules = http.default_router.rules
    before = [*rules]
    path = rf"{re.escape(core.prefix)}/individual-plots\.json"
    http.add_handlers(".*$", [(path, _listing(app), {"scheduler": scheduler})])
    added = [rule for rule in rules if rule not in before]

    def unmount() -> None:
        pages.stop()
        apps.remove(app)
        app.stop()
        variables["pages"].remove(NAV)
        for plot in plots:
            variables["plots"].remove(plot)
        for rule in added:
            rules.remove(rule)

    return unmount


def _listing(app: Any) -> Any:
    """A handler of individual-plots.json which lists the pages of `app` as well."""
    from distributed.http.scheduler.info import IndividualPlots

    class Listing(IndividualPlots):  # type: ignore[misc]
        def initialize(self, scheduler: Any) -> None:
            super().initialize(dask_server=scheduler, extra=None)

        def write(self, chunk: Any) -> None:
            if isinstance(chunk, dict):
                ours = [path for path in app.app_paths if "individual-" in path]
                titles = {x.strip("/").replace("-", " ").title(): x for x in ours}
                chunk = {**chunk, **dict(sorted(titles.items()))}
            super().write(chunk)

    return Listing
