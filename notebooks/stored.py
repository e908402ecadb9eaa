"""What a stored notebook may hold: outputs that are of no machine, bounded, and static.

Pure: reads what it is given; executes nothing. An output that passes shows in any
viewer, trusted or not, for it needs neither scripts nor the network.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

MOST_KB = 300  # of a notebook with its outputs
SHOWN = {"text/plain", "text/html", "image/png"}  # what every viewer shows
ACTIVE = {"script", "iframe", "object", "embed", "link", "base", "meta", "form", "svg"}
IN_SVG = {"script", "foreignobject", "iframe", "object", "embed", "image", "a", "use"}
LINKS = {"href", "xlink:href", "src", "srcset", "action", "formaction", "data"}
LOOPBACK = "127.0.0.1"
ADDRESS = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
FOLDER = re.compile(r"(?<![\w:/.<])/(?:home|root|tmp|usr|opt|var|work|Users|private)/")
URL = re.compile(r"url\(\s*['\"]?(?!#)", re.IGNORECASE)


def complaints(
    notebook: Any, secrets: Iterable[str] = (), *, hushed: bool = True
) -> list[str]:
    """Why a notebook should not be stored; empty if it may.

    Parameters
    ----------
    notebook : NotebookNode
        With its outputs.
    secrets : iterable of str
        Words of the machine that executed it, such as its name, that no output tells.
    hushed : bool
        Whether nothing may stand on standard error, where Dask warns of a busy host.

    Returns
    -------
    list of str
        Each says which cell, and what is wrong with it.
    """
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        where = f"cell {number}"
        if cell.execution_count is None:
            found.append(f"{where} was not executed")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{where} raised {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                if hushed:
                    found.append(f"{where} wrote to standard error: {output.text}")
                continue
            for kind, text in _texts(output):
                if kind not in SHOWN:
                    found.append(f"{where} has {kind}, which not every viewer shows")
                found += [f"{where}: {what}" for what in _told(text, secrets)]
                if kind == "text/html":
                    found += [f"{where}: {what}" for what in active(text)]
    return found


def active(html: str) -> list[str]:
    """What of a page of HTML would run, reach out, or be stripped; pictures included.

    Examples
    --------
    >>> active('<p onclick="x()">a <b>word</b></p>')
    ['<p> has onclick']
    >>> active("<table><tr><td>static</td></tr></table>")
    []
    """
    return _Reader(ACTIVE).read(html)


class _Reader(HTMLParser):
    """Notes what is active in HTML, or in the SVG of a picture."""

    def __init__(self, banned: set[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.banned, self.found = banned, list[str]()

    def read(self, text: str) -> list[str]:
        self.feed(text)
        self.close()
        return self.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.banned:
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = (value or "").strip()
            if name.startswith("on") or name == "srcdoc":
                self.found.append(f"<{tag}> has {name}")
            elif name in LINKS:
                self._link(tag, name, text)
            elif URL.search(text):
                self.found.append(f"<{tag}> has {name} with a URL")

    def _link(self, tag: str, name: str, text: str) -> None:
        picture = re.match(r"data:image/(svg\+xml|png)(;base64)?,", text)
        if picture and tag == "img":
            if picture[1] == "svg+xml":
                body = text[picture.end() :]
                plain = base64.b64decode(body).decode() if picture[2] else unquote(body)
                inner = _Reader(IN_SVG).read(plain)
                self.found += [f"picture with {what}" for what in inner]
        elif not text.startswith((f"http://{LOOPBACK}", "https://", "#")):
            self.found.append(f"<{tag}> has {name}={text[:40]!r}")
        elif tag != "a" and not text.startswith("#"):
            self.found.append(f"<{tag}> loads {text[:40]!r}")


def _texts(output: Any) -> Iterator[tuple[str, str]]:
    """``(MIME type, text)`` of all that an output holds."""
    if output.output_type == "stream":
        yield "text/plain", output.text
    for kind, data in output.get("data", {}).items():
        yield kind, data if isinstance(data, str) else repr(data)
    yield from (("text/plain", line) for line in output.get("traceback", ()))


def _told(text: str, secrets: Iterable[str]) -> list[str]:
    """What a text tells of the machine that wrote it."""
    found = [f"address {one}" for one in ADDRESS.findall(text) if one != LOOPBACK]
    found += [f"folder {one}" for one in FOLDER.findall(text)]
    words = [word for word in secrets if re.search(rf"\b{re.escape(word)}\b", text)]
    return [*found, *(f"{word!r}, of this machine" for word in words)]
