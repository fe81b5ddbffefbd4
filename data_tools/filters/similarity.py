"""Near-duplicates: of rows that say nearly the same about the same picture, the first in file order stays.

Two rows are near when the texts are (MinHash over question and responses, in either order of the responses) *and*
their pictures are: equally many, and each, in its place, the same bytes or a look-alike. The same question and
answers about two different pictures are two rows. So are a row with a picture and one without.

A row leaves exactly when it is near a row that stays and stands before it. Nothing else decides: not the number of
shards, not the order in which candidates are found. Filtering what was filtered changes nothing.

Memory for a row: 512 bytes of signature, which may be a file mapped into memory, 32 bytes of numbers, and the names
of its pictures (about 180 bytes with one). Time grows with the square of a group only where thousands of rows about
the same picture, or none, share a third of their text and more.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.filters.minhash import PLACES, agreeing, band_keys, bands_for
from data_tools.filters.picture_likeness import BITS, Likeness, all_near, likeness, look_alikes
from proxygrm.core.errors import UserError

Names = tuple[str, ...]
_ROWS = 4096  # signatures that are read at once: 2 MB
_SCATTERED = 64  # the same for pairs that lie anywhere in the file: each maps up to 0.25 MB about it


@dataclass(frozen=True)
class SimilaritySettings:
    threshold: float = 0.8
    """Share of common word 3-grams above which texts are near. One word changed in 30 leaves 0.84 of them and
    one in 20 leaves 0.75: a row with small edits, not one that was rewritten. Estimated with a deviation of 0.035."""
    picture_distance: int = 4
    """Bits of 64 by which look-alikes may differ; 0: the same bytes only. Scaling to a third and JPEG at quality 30
    moved up to 4 bits in 60 generated pictures, and different ones were 24 and more apart."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.threshold <= 1:
            raise UserError(f"near-duplicate threshold {self.threshold:g} must be from 0.5 to 1")
        check_distance("similarity.picture_distance", self.picture_distance)


def check_distance(name: str, distance: int) -> None:
    if not 0 <= distance <= BITS // 4:
        raise UserError(f"{name} is {distance}; it must be from 0 to {BITS // 4} bits of {BITS}")


@dataclass(frozen=True)
class NearDuplicates:
    """Three arrays of equal length, one entry a row that leaves, in the order of the rows."""

    rows: np.ndarray
    keepers: np.ndarray  # the row that stays for it
    similarity: np.ndarray  # estimated share of common 3-grams


def near_duplicates(
    signs: np.ndarray, pictures: Sequence[Names], images: Path, settings: SimilaritySettings
) -> NearDuplicates:
    """signs: (n, 128) of `minhash.signatures`; pictures: each row's, files in the folder `images`."""
    need, bands = agreeing(settings.threshold), bands_for(settings.threshold)
    looks: dict[str, Likeness | None] = {}
    if settings.picture_distance and any(pictures):
        counts = np.fromiter(map(len, pictures), dtype=np.uint64, count=len(pictures))
        groups = _groups(signs, counts, bands)
        compared = _unequal(groups, pictures)
        looks = _looks({name for row in compared.tolist() for name in pictures[row]}, images)
        signs_of_pictures = _picture_keys(pictures, looks, settings.picture_distance)
    else:
        signs_of_pictures = _picture_keys(pictures, {}, 0)

    def near(row: int, keeper: int) -> bool:
        one, other = pictures[row], pictures[keeper]
        if one == other:
            return True
        if not settings.picture_distance:
            return False
        return all_near_or_same(one, other, looks, settings.picture_distance)

    groups = _groups(signs, signs_of_pictures, bands)
    return _lead(signs, groups, need, near if any(pictures) else None)


def all_near_or_same(one: Names, other: Names, looks: dict[str, Likeness | None], distance: int) -> bool:
    return len(one) == len(other) and all(
        a == b or all_near([looks.get(a)], [looks.get(b)], distance) for a, b in zip(one, other, strict=True)
    )


def _groups(signs: np.ndarray, extra: np.ndarray, bands: int) -> np.ndarray:
    """A number for each row, the same for rows that share a band and have the same `extra`, directly or over others:
    a row that is near another is in its group."""
    count, width = len(signs), PLACES // bands
    links: np.ndarray = np.zeros(0, dtype=np.uint64)
    for band in range(bands):
        keys: np.ndarray = np.empty(count, dtype=np.uint64)
        for at in range(0, count, _ROWS):
            part = np.ascontiguousarray(signs[at : at + _ROWS, band * width : (band + 1) * width])
            keys[at : at + _ROWS] = band_keys(part, 1, extra[at : at + _ROWS])[:, 0]
            _release(signs)
        order = np.argsort(keys)  # any order of equal keys will do: the links of a band are the same group
        ordered = keys[order]
        repeats = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        if len(repeats):
            begins = np.maximum.accumulate(
                np.where(np.concatenate([[True], ordered[1:] != ordered[:-1]]), np.arange(count), 0)
            )
            firsts = order[begins[repeats]].astype(np.uint64)
            found = firsts << np.uint64(32) | order[repeats].astype(np.uint64)
            links = np.unique(np.concatenate([links, found]))
    return _connected(
        count, (links >> np.uint64(32)).astype(np.int64), (links & np.uint64(0xFFFFFFFF)).astype(np.int64)
    )


def _release(signs: np.ndarray) -> None:
    """Pages of a mapped file that were read need not stay in this process; the system keeps them while it can."""
    if isinstance(signs.base, mmap.mmap):
        signs.base.madvise(mmap.MADV_DONTNEED)


def _connected(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smallest row of each row's group, by passing the smaller number along every link until nothing changes."""
    labels: np.ndarray = np.arange(count)
    while len(one):
        least = np.minimum(labels[one], labels[other])
        before = labels.copy()
        np.minimum.at(labels, labels[one], least)
        np.minimum.at(labels, labels[other], least)
        np.minimum.at(labels, one, least)
        np.minimum.at(labels, other, least)
        labels = labels[labels]
        if np.array_equal(labels, before):
            break
    return labels


def _unequal(groups: np.ndarray, pictures: Sequence[Names]) -> np.ndarray:
    """Rows of groups in which not all have the same pictures: those that must be looked at."""
    mixed: np.ndarray = np.zeros(len(groups), dtype=bool)
    for row in np.flatnonzero(groups != np.arange(len(groups))).tolist():
        if pictures[row] != pictures[groups[row]]:
            mixed[groups[row]] = True
    return np.flatnonzero(mixed[groups])


def _looks(names: set[str], images: Path) -> dict[str, Likeness | None]:
    """Decoding leaves Python's lock, so threads share the work."""
    ordered = sorted(names)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(ordered, pool.map(likeness, [images / name for name in ordered]), strict=True))


def _picture_keys(pictures: Sequence[Names], looks: dict[str, Likeness | None], distance: int) -> np.ndarray:
    """(n) uint64, equal for rows whose pictures are near."""
    seen = [name for name, look in looks.items() if look is not None]
    labels = look_alikes([look for look in looks.values() if look is not None], distance)
    stands_for = {name: seen[label] for name, label in zip(seen, labels.tolist(), strict=True)}

    def key(names: Names) -> int:
        if not names:
            return 0
        text = "\n".join(stands_for.get(name, name) for name in names)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    return np.fromiter(map(key, pictures), dtype=np.uint64, count=len(pictures))


def _lead(signs: np.ndarray, groups: np.ndarray, need: int, near: Callable[[int, int], bool] | None) -> NearDuplicates:
    """The first row of each group stays, and every row near it leaves; then the first of those that are left, and so
    on. This is the rule of the module's head, for all groups at once."""
    sizes = np.bincount(groups, minlength=len(groups))
    rows = np.flatnonzero(sizes[groups] > 1)
    rows = rows[np.argsort(groups[rows], kind="stable")]
    left: list[np.ndarray] = [np.zeros((3, 0), dtype=np.int64)]
    while len(rows):
        is_first = np.concatenate([[True], groups[rows][1:] != groups[rows][:-1]])
        firsts = rows[is_first][np.cumsum(is_first) - 1]
        rows, firsts = rows[~is_first], firsts[~is_first]
        agree: np.ndarray = np.zeros(len(rows), dtype=np.int64)
        for at in range(0, len(rows), _SCATTERED):
            here = slice(at, at + _SCATTERED)
            agree[here] = np.count_nonzero(signs[rows[here]] == signs[firsts[here]], axis=1)
            _release(signs)
        leaves = agree >= need
        if near is not None:
            pairs = zip(rows[leaves].tolist(), firsts[leaves].tolist(), strict=True)
            leaves[leaves] = [near(row, first) for row, first in pairs]
        left.append(np.stack([rows[leaves], firsts[leaves], agree[leaves]]))
        rows = rows[~leaves]
    all_left = np.concatenate(left, axis=1)
    all_left = all_left[:, np.argsort(all_left[0], kind="stable")]
    return NearDuplicates(all_left[0], all_left[1], all_left[2] / PLACES)
