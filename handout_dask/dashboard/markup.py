"""Markup: HTML for notebooks and reports, static, in which no text of users' acts.

What is not `Html` already is escaped, always. Notebooks that are not trusted drop
scripts, style sheets and drawings, but leave tables, styles of elements, and images.
"""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterable, Sequence

from handout_dask.printable import printable

LONGEST = 200  # columns of a text of users'
ROWS = 20  # of a table, if it says nothing else
CELL = "text-align:{};padding:2px 10px 2px 0;white-space:nowrap"
FRAME = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45"
FAINT = "opacity:0.7"


class Html(str):
    """Text that is markup: made here, or of what is escaped."""

    __slots__ = ()


def escaped(value: object, most: int = LONGEST) -> Html:
    """Any value as text on a page.

    >>> escaped("<img onerror=x>"), escaped(Html("<b>"))
    ('&lt;img onerror=x&gt;', '<b>')
    """
    if isinstance(value, Html):
        return value
    return Html(html.escape(printable(value, most)))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other; nothing for those that are empty."""
    return Html(between.join(escaped(part) for part in parts if part != ""))


def element(tag: str, *parts: object, style: str = "", **attributes: object) -> Html:
    """An element with what is in it.

    >>> element("a", "7 < 8", href='x"y')
    '<a href="x&quot;y">7 &lt; 8</a>'
    """
    if style:
        attributes = {"style": style, **attributes}
    told = "".join(
        f' {name.rstrip("_")}="{escaped(value, 10**9)}"'
        for name, value in attributes.items()
    )
    return Html(f"<{tag}{told}>{joined(parts)}</{tag}>")


def table(
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    most: int = ROWS,
    left: int = 1,
    rest: str = "rows",
    count: int = 0,
) -> Html:
    """A table whose first columns stand to the left, the others to the right.

    Parameters
    ----------
    head : sequence
        Of each column the title; "" for all is none.
    rows : sequence of sequences
        Of which `most` are shown, with how many more `rest` there are.
    count : int
        How many there are in all, if that is more than the rows.
    left : int
        How many columns stand to the left.
    """
    if not rows:
        return Html("")

    def line(tag: str, cells: Sequence[object], weight: str = "") -> Html:
        return element(
            "tr",
            *(
                element(
                    tag,
                    cell,
                    style=CELL.format("left" if k < left else "right") + weight,
                )
                for k, cell in enumerate(cells)
            ),
            style="background:none",
        )

    lines = [line("td", row) for row in rows[:most]]
    hidden = max(len(rows), count) - min(len(rows), most)
    if hidden:
        note = f"… and {hidden:,} more {rest}"
        lines.append(element("tr", element("td", note, colspan=len(head), style=FAINT)))
    first = [line("th", head, ";font-weight:600")] if any(head) else []
    style = "border-collapse:collapse;margin:6px 0;border:none;font-size:12px"
    return element("table", *first, *lines, style=style)


def facts(rows: Iterable[tuple[object, object]]) -> Html:
    """Names and values, one below the other; nothing for values that are empty."""
    shown = [row for row in rows if row[1] != ""]
    return table(("", ""), shown, most=len(shown), left=2)


def meter(share: float, colour: str, width: int = 110) -> Html:
    """A bar that is filled to a part between 0 and 1."""
    share = min(max(share, 0.0), 1.0)
    inner = element(
        "div",
        style=f"width:{share * 100:.1f}%;height:9px;background:{colour};"
        "border-radius:2px",
    )
    return element(
        "div",
        inner,
        style=f"display:inline-block;width:{width}px;height:9px;border-radius:2px;"
        "background:rgba(128,128,128,0.25);vertical-align:middle",
    )


def image(svg: str, alt: str, width: float) -> Html:
    """A drawing as an image that carries its data."""
    data = b64encode(svg.encode()).decode()
    made = element(
        "img",
        style="max-width:100%;height:auto;background:transparent",
        alt=alt,
        width=f"{width:.0f}",
        src=f"data:image/svg+xml;base64,{data}",
    )
    return Html(made.removesuffix("</img>"))


def more(summary: object, *parts: object) -> Html:
    """What is shown when it is clicked."""
    return element(
        "details",
        element("summary", summary, style="cursor:pointer"),
        *parts,
        style="margin:4px 0",
    )


def frame(title: object, *parts: object) -> str:
    """What a notebook shows of an object."""
    head = element("div", title, style="font-weight:600;font-size:14px")
    return str(element("div", head, *parts, style=FRAME))
