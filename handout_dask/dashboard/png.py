"""Png: a drawing as an image, by what happens to be installed that makes one."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from handout_dask.errors import HandoutError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60.0  # s that a browser may take
SCALE = 2  # pixels for each px of the drawing
FRAME = 200  # px that a window may be higher than what it shows; 87 in Chromium 156


def png_of(svg: str, width: float, height: float) -> bytes:
    """The drawing on white, as a PNG.

    Raises
    ------
    HandoutError
        If nothing here makes one; it says what to install.
    """
    made = _by_cairo(svg) or _by_browser(svg, width, height)
    if made is None:
        raise HandoutError(
            "nothing here makes a PNG of a drawing: pip install cairosvg, or install "
            f"Chromium (looked for {', '.join(BROWSERS)}); .svg and .html need neither"
        )
    return made


def _by_cairo(svg: str) -> bytes | None:
    try:
        import cairosvg
    except (ImportError, OSError):  # OSError: it is there, but its library is not
        return None
    made: bytes = cairosvg.svg2png(
        bytestring=svg.encode(), scale=SCALE, background_color="white"
    )
    return made


def _by_browser(svg: str, width: float, height: float) -> bytes | None:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        page, image = Path(folder, "drawing.html"), Path(folder, "drawing.png")
        page.write_text(
            '<meta charset="utf-8"><body style="margin:0;background:#fff">' + svg,
            encoding="utf-8",
        )
        command = [
            found, "--headless", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={folder}/profile", f"--force-device-scale-factor={SCALE}",
            f"--window-size={int(width) + 1},{int(height) + 1 + FRAME}",
            f"--screenshot={image}", page.as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # else it refuses to start
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HandoutError(f"{found} makes no PNG: {error}") from error
        if not image.exists():
            said = done.stderr.decode(errors="replace").strip()[-300:]
            raise HandoutError(f"{found} makes no PNG: {said}")
        try:
            return _cropped(image, SCALE * (int(width) + 1), SCALE * (int(height) + 1))
        except OSError as error:  # it is no image, or half of one
            raise HandoutError(f"{found} makes no PNG: {error}") from error


def _cropped(image: Path, width: int, height: int) -> bytes:
    from PIL import Image  # Bokeh needs it too

    made = io.BytesIO()
    with Image.open(image) as shot:
        shot.crop((0, 0, width, height)).save(made, "PNG")
    return made.getvalue()
