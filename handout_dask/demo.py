"""The demo's graph: the power spectra of pictures, tile by tile, on nodes that differ.

The pictures are those that scikit-image ships. Natural pictures have a spectrum that
falls about as frequency to the power -2; textures and drawings don't.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handout_dask.errors import HandoutError
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Node

PICTURES = (
    "astronaut",
    "brick",
    "camera",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "moon",
)
SIDE = 384  # pixels of a square picture
BINS = 48
NODES = (
    Node("archive", {"cpu": 1, "memory": 1000, "pictures": True}),
    Node("desk", {"cpu": 2, "memory": 1000}),
    Node("workshop", {"cpu": 2, "memory": 4000}),
)


def load(name: str) -> list[np.ndarray]:
    """Four tiles of a picture in grey, each (SIDE / 2, SIDE / 2) float in 0 to 1."""
    try:
        from skimage import data
    except ImportError:
        raise HandoutError(
            "the demo's pictures are in scikit-image: pip install 'handout_dask[demo]'"
        ) from None
    picture = np.asarray(getattr(data, name)(), dtype=float) / 255.0
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture
    rows = np.linspace(0, grey.shape[0] - 1, SIDE).astype(int)
    columns = np.linspace(0, grey.shape[1] - 1, SIDE).astype(int)
    square = grey[np.ix_(rows, columns)]
    half = SIDE // 2
    corners = [(r, c) for r in (0, half) for c in (0, half)]
    return [
        np.ascontiguousarray(square[r : r + half, c : c + half]) for r, c in corners
    ]


def spectrum(tile: np.ndarray) -> Any:
    """Power at each spatial frequency: (BINS,), the mean over all directions."""
    window = np.outer(np.hanning(tile.shape[0]), np.hanning(tile.shape[1]))
    power = np.abs(np.fft.fftshift(np.fft.fft2((tile - tile.mean()) * window))) ** 2
    middle = tile.shape[0] // 2
    y, x = np.indices(power.shape) - middle
    ring = np.minimum(np.hypot(x, y) * BINS / middle, BINS).astype(int).ravel()
    total = np.bincount(ring, power.ravel(), BINS + 1)[:BINS]
    return total / np.maximum(np.bincount(ring, minlength=BINS + 1)[:BINS], 1)


def directions(*tiles: np.ndarray) -> Any:
    """How much of a picture's gradient lies in each of 18 directions: (18,), sum 1."""
    found = np.zeros(18)
    for tile in tiles:
        for scale in (1, 2, 3, 4, 6, 8):
            smooth = _blur(tile, scale)
            dy, dx = np.gradient(smooth)
            angle = (np.arctan2(dy, dx) % np.pi / np.pi * 18).astype(int) % 18
            found += np.bincount(angle.ravel(), np.hypot(dx, dy).ravel(), 18)
    return found / found.sum()


def _blur(tile: np.ndarray, scale: int) -> Any:
    kernel = np.exp(-0.5 * (np.arange(-3 * scale, 3 * scale + 1) / scale) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        tile = np.apply_along_axis(np.convolve, axis, tile, kernel, "same")
    return tile


def describe(name: str, *parts: np.ndarray) -> dict[str, Any]:
    """The slope of a picture's mean spectrum, and how far it prefers a direction."""
    *spectra, angles = parts
    mean = np.mean(spectra, axis=0)
    frequency = np.arange(2, BINS)
    slope = np.polyfit(np.log(frequency), np.log(mean[2:] + 1e-12), 1)[0]
    return {
        "picture": name,
        "slope": float(slope),
        "direction": float(angles.max() / angles.mean()),
        "spectrum": mean / mean.sum(),
    }


def compare(*pictures: dict[str, Any]) -> Any:
    """Correlation between the logarithmic spectra of all pictures: (p, p)."""
    return np.corrcoef([np.log(p["spectrum"] + 1e-12) for p in pictures])


def conclude(alike: np.ndarray, *pictures: dict[str, Any]) -> str:
    """A table for people: each picture, its slope, and which one is most like it."""
    lines = [f"{'picture':<10} {'slope':>6} {'direction':>9}  most like"]
    others = alike - 2 * np.eye(len(alike))
    for row in np.argsort([p["slope"] for p in pictures]):
        picture, nearest = pictures[row], pictures[int(others[row].argmax())]
        lines.append(
            f"{picture['picture']:<10} {picture['slope']:6.2f} "
            f"{picture['direction']:9.2f}  {nearest['picture']}"
        )
    return "\n".join(lines)


def graph() -> Graph:
    """The demo: 8 pictures in 58 functions of 6 costs, with indexed results."""
    functions = []
    tile_mb = (SIDE // 2) ** 2 * 8 / 1e6
    for name in PICTURES:
        tiles = [(f"load {name}", k) for k in range(4)]
        functions.append(
            Function(
                f"load {name}", [], load, kwargs={"name": name},
                cost={"cpu_time": 60, "memory": 100, "pictures": True,
                      "output_size": 4 * tile_mb},
            )
        )  # fmt: skip
        for k, tile in enumerate(tiles):
            cost = {"cpu_time": 12, "memory": 50, "output_size": 0.001}
            functions.append(Function(f"{name} {k}", [tile], spectrum, cost=cost))
        cost = {"cpu_time": 250, "memory": 1500, "output_size": 0.001}
        functions.append(Function(f"directions {name}", tiles, directions, cost=cost))
        parts = [*(f"{name} {k}" for k in range(4)), f"directions {name}"]
        cost = {"cpu_time": 2, "memory": 20, "output_size": 0.001}
        functions.append(Function(name, parts, _Describe(name), cost=cost))
    functions.append(
        Function("compare", PICTURES, compare, cost={"cpu_time": 1, "memory": 20})
    )
    cost = {"cpu_time": 1, "memory": 20}
    functions.append(Function("result", ["compare", *PICTURES], conclude, cost=cost))
    return Graph(functions, "spectra of pictures")


class _Describe:
    """`describe` with the picture's name in front of what is computed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.__qualname__ = "describe"

    def __call__(self, *parts: np.ndarray) -> dict[str, Any]:
        return describe(self.name, *parts)
