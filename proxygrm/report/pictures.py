"""Pictures for a page that must stay small: each once, and as large as all of them together may be."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from proxygrm.core.images.settle import UnreadableImage, image_of, pixels

# (longer side in px, quality), the first at which all fit
SIZES = ((320, 62), (256, 58), (208, 52), (168, 48), (136, 42), (112, 36), (88, 30), (72, 24))
SAMPLE = 48  # pictures tried at each size before one is chosen
TINY_PX = 128  # up to here a picture keeps every pixel
LEAST_BYTES = 1_400  # about what a picture takes in the page at the smallest size


@dataclass(frozen=True)
class Picture:
    """One picture of the page; `width` and `height` are the original's, in pixels."""

    width: int
    height: int
    webp: str  # base64


@dataclass(frozen=True)
class Pictures:
    """`at` gives each path its place in `shown`; equal files share one. Paths that are nowhere else: left out."""

    shown: list[Picture] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    missing: int = 0  # no such file
    unreadable: int = 0  # not a picture
    left_out: int = 0  # for the page's size
    side_px: int | None = None  # longer side of the large ones; None when there are none


def gather_pictures(paths: Sequence[str], budget: int) -> Pictures:
    """Thumbnails of the files there are, `budget` bytes of base64 in all.

    The largest size at which a sample says that all fit is tried first; where even the smallest is too large, the last
    pictures are left out and counted.
    """
    found = [path for path in dict.fromkeys(paths) if _is_file(path)]
    missing = len(set(paths)) - len(found)
    by_content: dict[str, list[str]] = {}
    with ThreadPoolExecutor() as pool:
        for path, digest in zip(found, pool.map(_digest, found), strict=True):
            by_content.setdefault(digest, []).append(path)
        files = [paths[0] for paths in by_content.values()]
        sample = files[:: max(1, len(files) // SAMPLE)]
        for rung, (side, quality) in enumerate(SIZES):
            last = rung == len(SIZES) - 1
            tried = list(pool.map(lambda path: _thumbnail(path, side, quality), sample))  # noqa: B023
            if not last and _bytes(tried) / max(1, len(sample)) * len(files) * 1.05 > budget:
                continue
            made = tried if len(sample) == len(files) else list(
                pool.map(lambda path: _thumbnail(path, side, quality), files)  # noqa: B023
            )  # fmt: skip
            if last or _bytes(made) <= budget:
                break
    shown: list[Picture] = []
    at: dict[str, int] = {}
    used = unreadable = left_out = 0
    for same, picture in zip(by_content.values(), made, strict=True):
        if picture is None:
            unreadable += len(same)
        elif used + len(picture.webp) > budget:
            left_out += len(same)
        else:
            used += len(picture.webp)
            at |= dict.fromkeys(same, len(shown))
            shown.append(picture)
    return Pictures(shown, at, missing, unreadable, left_out, side if shown else None)


def _bytes(pictures: Sequence[Picture | None]) -> int:
    return sum(len(picture.webp) for picture in pictures if picture)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # no path at all: a whole picture as base64, say
        return False


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return path


def _thumbnail(path: str, side: int, quality: int) -> Picture | None:
    """Of the image as consumers see it; None when the file cannot be decoded."""
    try:
        image = pixels(image_of(Path(path)))
        width, height = image.size
        image.thumbnail((side, side), reducing_gap=2.0)
        buffer = io.BytesIO()
        if max(width, height) <= min(side, TINY_PX):
            image.save(buffer, "WEBP", lossless=True, quality=80)
        else:
            image.save(buffer, "WEBP", quality=quality, method=4)
    except (UnreadableImage, OSError, ValueError):
        return None
    return Picture(width, height, base64.b64encode(buffer.getvalue()).decode())
