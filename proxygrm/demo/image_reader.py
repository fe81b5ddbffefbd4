"""Reads the facts in the demo's drawn images from their pixels. Not a model; it works on these images only."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass

from proxygrm.demo.scenes import COLOURS, COUNTS

_FOG_STD = 15.0  # without fog the left edge is plain ground


class NotADemoImage(ValueError):
    """The image cannot be decoded, or is not shapes of one colour on plain ground."""


@dataclass(frozen=True)
class ImageFacts:
    """The facts in an image; in fog only the colour, and that is uncertain."""

    colours: tuple[str, ...]  # the likeliest first
    shape: str = ""
    count: str = ""
    position: str = ""

    @property
    def fog(self) -> bool:
        return not self.shape

    def fact(self, kind: str) -> str:
        return self.colours[0] if kind == "colour" else getattr(self, kind)

    def likeliest(self, kind: str, facts: Collection[str]) -> str:
        """The fact, or in fog the likelier one of `facts`."""
        if kind == "colour" and self.fog:
            return next((colour for colour in self.colours if colour in facts), self.colours[0])
        return self.fact(kind)


def read_image(data: bytes) -> ImageFacts:
    """The facts in the image. Raises NotADemoImage."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NotADemoImage(f"the image cannot be decoded: {error}") from error
    if not 16 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= 512:
        raise NotADemoImage(f"the image is {pixels.shape[1]} x {pixels.shape[0]} pixels, not a drawn one")
    if pixels[:, 0].std() > _FOG_STD:
        return _read_in_fog(pixels)
    mask = np.abs(pixels - pixels[0, 0]).max(axis=2) > 40
    blobs = [blob for blob in _blobs(mask) if blob.area > 20]
    if not 1 <= len(blobs) <= len(COUNTS):
        raise NotADemoImage(f"the image has {len(blobs)} shapes, expected 1 to {len(COUNTS)}")
    first = blobs[0]
    mean = np.mean([pixels[y, a:b].mean(axis=0) for y, a, b in first.runs[len(first.runs) // 3 :]], axis=0)
    colours = sorted(COLOURS, key=lambda name: float(np.sum((mean - np.array(COLOURS[name])) ** 2)))
    return ImageFacts(tuple(colours), _shape(first), COUNTS[len(blobs) - 1], _position(first, *mask.shape))


def _read_in_fog(pixels) -> ImageFacts:
    """The ground is grey, so the mean of all pixels is shifted towards the shape's colour, however faint it is."""
    import numpy as np

    cast = pixels.mean(axis=(0, 1))

    def similarity(name: str) -> float:
        hue = np.array(COLOURS[name], dtype=float)
        hue -= hue.mean()
        return float((cast - cast.mean()) @ hue / np.linalg.norm(hue))

    return ImageFacts(tuple(sorted(COLOURS, key=similarity, reverse=True)))


@dataclass
class _Blob:
    runs: list[tuple[int, int, int]]  # (row, first column, column after the last), rows ascending

    @property
    def area(self) -> int:
        return sum(b - a for _, a, b in self.runs)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """top, bottom, left, right; bottom and right exclusive"""
        rows = [y for y, _, _ in self.runs]
        return min(rows), max(rows) + 1, min(a for _, a, _ in self.runs), max(b for _, _, b in self.runs)


def _blobs(mask) -> list[_Blob]:
    """Connected groups of set pixels, found row by row; the topmost first."""
    import numpy as np

    blobs: list[_Blob] = []
    open_runs: list[tuple[int, int, _Blob]] = []  # runs of the row above, with their blob
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(int), [0])))).tolist()
        here: list[tuple[int, int, _Blob]] = []
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            touching: list[_Blob] = []
            for above_a, above_b, blob in open_runs:
                if above_a < b and a < above_b and not any(blob is listed for listed in touching):
                    touching.append(blob)
            if not touching:
                touching.append(_Blob([]))
                blobs.append(touching[0])
            merged = touching[0]
            for other in touching[1:]:  # two parts meet: one blob
                merged.runs.extend(other.runs)
                blobs = [blob for blob in blobs if blob is not other]
                open_runs = [(i, j, merged if blob is other else blob) for i, j, blob in open_runs]
                here = [(i, j, merged if blob is other else blob) for i, j, blob in here]
            merged.runs.append((y, a, b))
            here.append((a, b, merged))
        open_runs = here
    for blob in blobs:
        blob.runs.sort()
    return blobs


def _shape(blob: _Blob) -> str:
    """The shape, from the share of its bounding box that is filled and the width of its lowest rows."""
    top, bottom, left, right = blob.box
    fill = blob.area / ((bottom - top) * (right - left))
    foot = sum(b - a for y, a, b in blob.runs if y >= bottom - 2) / (2 * (right - left))
    if fill > 0.9:
        return "square"
    if fill > 0.68:
        return "circle"
    return "triangle" if foot > 0.7 else "cross"


def _position(blob: _Blob, height: int, width: int) -> str:
    top, bottom, left, right = blob.box
    down, across = (top + bottom - height) / 2, (left + right - width) / 2
    if abs(across) >= abs(down):
        return "right" if across > 0 else "left"
    return "bottom" if down > 0 else "top"
