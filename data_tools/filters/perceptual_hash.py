"""Finds images that look the same, by a difference hash of 64 bits and the mean colour.

Each bit tells, for one of 8 x 8 pixels of the grey image at 9 x 8, whether the right neighbour is brighter (dHash).
Rescaling or recompressing an image hardly changes it. It ignores colour, and a flat image has no differences, so the
mean colours must agree too. Stored images are upright, so EXIF orientation does not matter here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from proxygrm.core.images.settle import open_image

BITS = 64
MEAN_TOLERANCE = 12  # of 255, per channel; JPEG at quality 30 changed no mean by more than 1


class PerceptualHash(NamedTuple):
    bits: int  # 64
    mean: tuple[int, int, int]  # RGB, 0..255

    def near(self, other: PerceptualHash, distance: int) -> bool:
        """At most `distance` bits differ, and the mean colours agree."""
        if (self.bits ^ other.bits).bit_count() > distance:
            return False
        return all(abs(a - b) <= MEAN_TOLERANCE for a, b in zip(self.mean, other.mean, strict=True))


def perceptual_hash(path: Path) -> PerceptualHash | None:
    """The hash of an image; None if it cannot be decoded. Large JPEGs are decoded at a fraction of their size: 2 ms for
    an image of 800 x 600 pixels, 20 ms for 6 million."""
    from PIL import Image

    try:
        with open_image(path) as image:
            image.draft("RGB", (144, 128))
            colour = image.convert("RGB").resize((36, 32), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    grey = np.asarray(colour.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())
    red, green, blue = np.asarray(colour).reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    return PerceptualHash(bits, (red, green, blue))


def bands(bits: int, distance: int) -> list[int]:
    """`distance + 1` slices of the hash. Two hashes that differ in at most `distance` bits agree in at least one slice,
    because each bit that differs is in one slice only."""
    return [(bits >> low) & ((1 << (high - low)) - 1) for low, high in pairwise(_edges(distance))]


def _edges(distance: int) -> list[int]:
    return [BITS * i // (distance + 1) for i in range(distance + 2)]


def look_alike_groups(images: Sequence[PerceptualHash], distance: int) -> np.ndarray:
    """A group number for each image; images that are near, directly or through others, have the same number."""
    parents: np.ndarray = np.arange(len(images))
    bits = np.array([image.bits for image in images], dtype=np.uint64)
    means = np.array([image.mean for image in images], dtype=np.int16).reshape(-1, 3)
    for low, high in pairwise(_edges(distance)):
        slices = (bits >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(slices, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], slices[order][1:] != slices[order][:-1]]))
        for start, end in pairwise([*starts.tolist(), len(order)]):
            for at in range(start, end - 1):  # each against all after it in the slice
                first, rest = order[at], order[at + 1 : end]
                near = np.bitwise_count(bits[rest] ^ bits[first]) <= distance
                near[near] = (np.abs(means[rest[near]] - means[first]) <= MEAN_TOLERANCE).all(axis=1)
                for other in rest[near].tolist():
                    _join(parents, int(first), other)
    return np.array([_root(parents, i) for i in range(len(images))], dtype=np.int64)


def _root(parents: np.ndarray, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i


def _join(parents: np.ndarray, a: int, b: int) -> None:
    a, b = _root(parents, a), _root(parents, b)
    parents[max(a, b)] = min(a, b)


class PerceptualHashIndex:
    """Names of images by hash; finds those within `distance` bits without comparing with every image."""

    def __init__(self, images: Iterable[tuple[str, PerceptualHash]], distance: int) -> None:
        self.distance = distance
        self._slots: dict[tuple[int, int], list[tuple[str, PerceptualHash]]] = defaultdict(list)
        for name, image in images:
            for slot in enumerate(bands(image.bits, distance)):
                self._slots[slot].append((name, image))

    def first_near(self, image: PerceptualHash) -> str | None:
        """The first name, in sorting order, of an image that is near."""
        names = (
            name
            for slot in enumerate(bands(image.bits, self.distance))
            for name, other in self._slots.get(slot, ())
            if image.near(other, self.distance)
        )
        return min(names, default=None)


def all_near(images: Sequence[PerceptualHash | None], others: Sequence[PerceptualHash | None], distance: int) -> bool:
    """Whether the images of two rows are near, in their order; an undecodable one is near to none."""
    return len(images) == len(others) and all(
        a is not None and b is not None and a.near(b, distance) for a, b in zip(images, others, strict=True)
    )
