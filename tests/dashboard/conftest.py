"""A real browser, without a download: Debian's Chromium, driven by playwright."""

import os
import shutil
from contextlib import contextmanager, suppress

import cloudpickle
import pytest

from tests.runtime import conftest as _shared

NEEDED = os.environ.get("HANDOUT_NEEDS_BROWSER") == "1"  # .ci/run says so
PATIENCE = 60_000  # ms after which a page is taken to hang
READY = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"


cloudpickle.register_pickle_by_value(_shared)  # which workers don't know
_by_value, _quiet, gate = _shared._by_value, _shared._quiet, _shared.gate


def _missing(what):
    """Skip, unless the tests were promised a browser."""
    text = f"pages are not tested in a browser: {what}"
    pytest.fail(text) if NEEDED else pytest.skip(text)


# Not for the session: its event loop would end every later test that runs one.
@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        _missing("no chromium is installed (on Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed (pip install playwright)")
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Shown:
    """One page of the dashboard, as a person uses it."""

    def __init__(self, page):
        self.page = page

    def open(self, url):
        self.page.goto(url, timeout=PATIENCE)
        self.page.wait_for_function(READY, timeout=PATIENCE)
        return self

    def tab(self, name):
        self.page.locator(".bk-tab").filter(has_text=name).first.click()
        return self

    def says(self, text):
        """Wait until a text is on the page."""
        self.page.get_by_text(text).first.wait_for(state="attached", timeout=PATIENCE)
        return self

    @property
    def headline(self):
        return self.evaluate("model('handout-headline').text")

    def evaluate(self, expression):
        """Of an expression in which ``model(name)`` is a model of the document."""
        return self.page.evaluate(_with_model(expression))

    def until(self, expression):
        """Wait until it is true."""
        self.page.wait_for_function(_with_model(expression), timeout=PATIENCE)
        return self

    def has(self, count, name):
        """Wait until a source of that name has so many rows."""
        return self.until(f"(model('{name}') || {{}}).length == {count}")

    def column(self, name, column):
        """A column of a source."""
        return self.evaluate(f"Array.from(model('{name}').data['{column}'])")

    def tooltip(self, figure, name, at):
        """What is said, line by line, of row number `at` of what a figure draws."""
        from playwright.sync_api import TimeoutError

        told = self.page.locator(".bk-tooltip-row-value").filter(visible=True)
        for _ in range(PATIENCE // 500):
            # A figure that moved meanwhile says nothing: it is pointed at once more.
            place = self.evaluate(f"place('{figure}', model('{name}').data, {at})")
            self.page.mouse.move(place["x"] - 5, place["y"])
            self.page.mouse.move(place["x"], place["y"])
            self.page.wait_for_timeout(50)
            with suppress(TimeoutError):
                told.first.wait_for(timeout=450)
                break
        assert told.count(), f"nothing is said of row {at} of {name}"
        return told.all_inner_texts()


def _with_model(expression):
    return (
        "() => { const doc = Bokeh.documents[0];"
        "const model = name => doc.get_model_by_name(name);"
        "const view = (found, from) => { for (const v of from) {"
        " if (v.model === found) return v;"
        " const deep = view(found, v.child_views || []); if (deep) return deep; }"
        " return null; };"
        "const place = (name, data, at) => {"
        " const v = view(model(name), doc.views_manager.roots);"
        " const e = v.el.getBoundingClientRect(), has = k => data[k] != null;"
        " const mean = (a, b) => (data[a][at] + data[b][at]) / 2;"
        " const x = has('x') ? data.x[at] : mean('left', 'right');"
        " const y = has('y') ? data.y[at] : mean('top', 'bottom');"
        " return {x: e.x + v.frame.x_scale.compute(x),"
        "  y: e.y + v.frame.y_scale.compute(y)}; };"
        f"return {expression}; }}"
    )


@pytest.fixture
def opened(browser):
    """``with opened() as shown``: a page that may say nothing on its console."""

    @contextmanager
    def opened(**options):
        context = browser.new_context(
            viewport={"width": 1300, "height": 850}, **options
        )
        page, wrong = context.new_page(), []
        page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        try:
            yield Shown(page)
            assert not page.evaluate("window.hacked"), "text of a user ran as script"
        finally:
            context.close()
        assert wrong == []

    return opened
