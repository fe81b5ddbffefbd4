"""Images for a page of limited size: each once, as large as the total allows."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from proxygrm.core.images.settle import UnreadableImage, image_of, pixels

# (longer side in px, quality); the first that fits is used
SIZES = ((320, 62), (256, 58), (208, 52), (168, 48), (136, 42), (112, 36), (88, 30), (72, 24))
SAMPLE = 48  # images tried at each size before one is chosen
TINY_PX = 128  # images up to this size are stored losslessly
LEAST_BYTES = 1_400  # of an image in the page at the smallest size, about


@dataclass(frozen=True)
class PageImage:
    """One image of the page; `width` and `height` are the original's, in pixels."""

    width: int
    height: int
    webp: str  # base64


@dataclass(frozen=True)
class PageImages:
    """`index` maps each path to its image in `images`; equal files share one."""

    images: list[PageImage] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    missing: int = 0  # no such file
    unreadable: int = 0  # not an image
    left_out: int = 0  # because of the page's size
    side_px: int | None = None  # longer side of the large ones; None without images


def gather_images(paths: Sequence[str], budget: int) -> PageImages:
    """Thumbnails of the existing files, `budget` bytes of base64 in total.

    Starts with the largest size at which all fit, judging by a sample; where even the smallest is too large, the last
    images are left out and counted.
    """
    existing = [path for path in dict.fromkeys(paths) if _is_file(path)]
    missing = len(set(paths)) - len(existing)
    by_content: dict[str, list[str]] = {}
    with ThreadPoolExecutor() as pool:
        for path, digest in zip(existing, pool.map(_digest, existing), strict=True):
            by_content.setdefault(digest, []).append(path)
        files = [same[0] for same in by_content.values()]
        sample = files[:: max(1, len(files) // SAMPLE)]
        for number, (side, quality) in enumerate(SIZES):
            last = number == len(SIZES) - 1
            sample_images = list(pool.map(lambda path: _thumbnail(path, side, quality), sample))  # noqa: B023
            if not last and _bytes(sample_images) / max(1, len(sample)) * len(files) * 1.05 > budget:
                continue
            images = sample_images if len(sample) == len(files) else list(
                pool.map(lambda path: _thumbnail(path, side, quality), files)  # noqa: B023
            )  # fmt: skip
            if last or _bytes(images) <= budget:
                break
    kept: list[PageImage] = []
    index: dict[str, int] = {}
    used = unreadable = left_out = 0
    for same, image in zip(by_content.values(), images, strict=True):
        if image is None:
            unreadable += len(same)
        elif used + len(image.webp) > budget:
            left_out += len(same)
        else:
            used += len(image.webp)
            index |= dict.fromkeys(same, len(kept))
            kept.append(image)
    return PageImages(kept, index, missing, unreadable, left_out, side if kept else None)


def _bytes(images: Sequence[PageImage | None]) -> int:
    return sum(len(image.webp) for image in images if image)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # not a path: an image as base64, say
        return False


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return path


def _thumbnail(path: str, side: int, quality: int) -> PageImage | None:
    """A thumbnail of the image as consumers see it; None when the file cannot be decoded."""
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
    return PageImage(width, height, base64.b64encode(buffer.getvalue()).decode())
