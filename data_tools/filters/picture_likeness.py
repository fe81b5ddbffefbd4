"""Which pictures look the same: a difference hash of 64 bits, and the mean colour.

The hash says, for 8 x 8 places of the picture in grey at 9 x 8, whether the right neighbour is brighter (dHash). It
barely moves when a picture is scaled or compressed again. It sees no colour, and in a flat picture there is nothing
to see, so the mean colours must agree too. The store keeps pictures upright, so EXIF needs no care here.
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
MEAN_TOLERANCE = 12  # of 255, a channel; JPEG at quality 30 moved no mean by more than 1


class Likeness(NamedTuple):
    bits: int  # 64
    mean: tuple[int, int, int]  # RGB, 0..255

    def near(self, other: Likeness, distance: int) -> bool:
        """At most `distance` bits differ, and the mean colours agree."""
        if (self.bits ^ other.bits).bit_count() > distance:
            return False
        return all(abs(a - b) <= MEAN_TOLERANCE for a, b in zip(self.mean, other.mean, strict=True))


def likeness(path: Path) -> Likeness | None:
    """None when the file is no picture that can be decoded. JPEGs are decoded at a fraction of their size where
    they are large: 2 ms a picture of 800 x 600 pixels, 20 ms at 6 million."""
    from PIL import Image

    try:
        with open_image(path) as picture:
            picture.draft("RGB", (144, 128))
            colour = picture.convert("RGB").resize((36, 32), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    grey = np.asarray(colour.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())
    red, green, blue = np.asarray(colour).reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    return Likeness(bits, (red, green, blue))


def bands(bits: int, distance: int) -> list[int]:
    """`distance + 1` slices of the hash. Two hashes that differ in at most `distance` bits share one of them in the
    same place, because a bit that differs spoils one slice only."""
    return [(bits >> low) & ((1 << (high - low)) - 1) for low, high in pairwise(_edges(distance))]


def _edges(distance: int) -> list[int]:
    return [BITS * i // (distance + 1) for i in range(distance + 2)]


def look_alikes(pictures: Sequence[Likeness], distance: int) -> np.ndarray:
    """A number for each picture, the same for all that are near, directly or over others between them."""
    parents: np.ndarray = np.arange(len(pictures))
    bits = np.array([like.bits for like in pictures], dtype=np.uint64)
    means = np.array([like.mean for like in pictures], dtype=np.int16).reshape(-1, 3)
    for low, high in pairwise(_edges(distance)):
        slices = (bits >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(slices, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], slices[order][1:] != slices[order][:-1]]))
        for start, end in pairwise([*starts.tolist(), len(order)]):
            for at in range(start, end - 1):  # one against all after it in the slot
                one, rest = order[at], order[at + 1 : end]
                near = np.bitwise_count(bits[rest] ^ bits[one]) <= distance
                near[near] = (np.abs(means[rest[near]] - means[one]) <= MEAN_TOLERANCE).all(axis=1)
                for other in rest[near].tolist():
                    _join(parents, int(one), other)
    return np.array([_root(parents, i) for i in range(len(pictures))], dtype=np.int64)


def _root(parents: np.ndarray, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i


def _join(parents: np.ndarray, a: int, b: int) -> None:
    a, b = _root(parents, a), _root(parents, b)
    parents[max(a, b)] = min(a, b)


class LikenessIndex:
    """Names of pictures by likeness; finds all within `distance` bits without comparing with every one."""

    def __init__(self, pictures: Iterable[tuple[str, Likeness]], distance: int) -> None:
        self.distance = distance
        self._slots: dict[tuple[int, int], list[tuple[str, Likeness]]] = defaultdict(list)
        for name, like in pictures:
            for slot in enumerate(bands(like.bits, distance)):
                self._slots[slot].append((name, like))

    def first_near(self, like: Likeness) -> str | None:
        """The name that sorts first among those near."""
        found = (
            name
            for slot in enumerate(bands(like.bits, self.distance))
            for name, other in self._slots.get(slot, ())
            if like.near(other, self.distance)
        )
        return min(found, default=None)


def all_near(some: Sequence[Likeness | None], others: Sequence[Likeness | None], distance: int) -> bool:
    """Two rows' pictures, in their order; one that cannot be decoded is near to nothing."""
    return len(some) == len(others) and all(
        a is not None and b is not None and a.near(b, distance) for a, b in zip(some, others, strict=True)
    )
