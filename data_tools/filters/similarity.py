"""Finds near-duplicates: of rows with nearly the same texts about the same image, the first in file order is kept.

Two rows are near if their texts are (MinHash over question and responses, in either order of the responses) *and* their
images are: equally many, and each the same bytes as, or a look-alike of, the image at the same position. The same
question and answers about two different images are not duplicates; neither are a row with an image and one without.

A row is dropped if and only if it is near a kept row before it. The result does not depend on the number of shards or
on the order of candidates, and filtering the result again changes nothing.

Memory per row: 512 bytes of signature, possibly in a memory-mapped file, 32 bytes of numbers, and the names of its
images (about 180 bytes for one image). Time is quadratic in the size of a group only if thousands of rows about the
same image, or without one, share a third of their text or more.
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

from data_tools.filters.minhash import NUM_HASHES, band_keys, bands_for, min_matches
from data_tools.filters.perceptual_hash import BITS, PerceptualHash, all_near, look_alike_groups, perceptual_hash
from proxygrm.core.errors import UserError

Names = tuple[str, ...]
_ROWS = 4096  # signatures read at once: 2 MB
_SCATTERED = 64  # the same for signatures anywhere in the file: each maps up to 0.25 MB around it


@dataclass(frozen=True)
class SimilaritySettings:
    threshold: float = 0.8
    """Share of common word 3-grams above which texts are near. One changed word in 30 leaves 0.84 of them and one in
    20 leaves 0.75: small edits, not a rewritten row. The estimate has a standard deviation of 0.035."""
    image_distance: int = 4
    """Bits of 64 by which look-alikes may differ; 0: the same bytes only. Scaling to a third and JPEG at quality 30
    changed up to 4 bits in 60 generated images; different images differed in 24 or more."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.threshold <= 1:
            raise UserError(
                f"near-duplicate threshold {self.threshold:g} must be from 0.5 to 1",
                code="settings.out-of-range", name="similarity.threshold", value=self.threshold,
            )  # fmt: skip
        check_distance("similarity.image_distance", self.image_distance)


def check_distance(name: str, distance: int) -> None:
    """Raises UserError for an image distance that is out of range."""
    if not 0 <= distance <= BITS // 4:
        raise UserError(
            f"{name} is {distance}; it must be from 0 to {BITS // 4} bits of {BITS}",
            code="settings.out-of-range", name=name, value=distance, most=BITS // 4,
        )  # fmt: skip


@dataclass(frozen=True)
class NearDuplicates:
    """Three arrays of equal length, one entry per dropped row, in the order of the rows."""

    rows: np.ndarray
    keepers: np.ndarray  # the kept row that it is near to
    similarity: np.ndarray  # estimated share of common 3-grams


def near_duplicates(
    signatures: np.ndarray, images: Sequence[Names], folder: Path, settings: SimilaritySettings
) -> NearDuplicates:
    """The near-duplicates among rows. signatures: (n, 128) of `minhash.signatures`; images: files in `folder`."""
    required, bands = min_matches(settings.threshold), bands_for(settings.threshold)
    hashes: dict[str, PerceptualHash | None] = {}
    if settings.image_distance and any(images):
        counts = np.fromiter(map(len, images), dtype=np.uint64, count=len(images))
        groups = _groups(signatures, counts, bands)
        compared = _rows_with_other_images(groups, images)
        hashes = _hash_images({name for row in compared.tolist() for name in images[row]}, folder)
        image_keys = _image_keys(images, hashes, settings.image_distance)
    else:
        image_keys = _image_keys(images, {}, 0)

    def near(row: int, keeper: int) -> bool:
        row_images, keeper_images = images[row], images[keeper]
        if row_images == keeper_images:
            return True
        if not settings.image_distance:
            return False
        return all_near_or_same(row_images, keeper_images, hashes, settings.image_distance)

    groups = _groups(signatures, image_keys, bands)
    return _drop_near_rows(signatures, groups, required, near if any(images) else None)


def all_near_or_same(images: Names, others: Names, hashes: dict[str, PerceptualHash | None], distance: int) -> bool:
    """Whether the images of two rows are the same or near, in their order."""
    return len(images) == len(others) and all(
        a == b or all_near([hashes.get(a)], [hashes.get(b)], distance) for a, b in zip(images, others, strict=True)
    )


def _groups(signatures: np.ndarray, extra: np.ndarray, bands: int) -> np.ndarray:
    """A group number for each row. Rows that share a band and have the same `extra` are in one group, directly or
    through others; so two near rows are always in one group."""
    count, width = len(signatures), NUM_HASHES // bands
    links: np.ndarray = np.zeros(0, dtype=np.uint64)
    for band in range(bands):
        keys: np.ndarray = np.empty(count, dtype=np.uint64)
        for at in range(0, count, _ROWS):
            part = np.ascontiguousarray(signatures[at : at + _ROWS, band * width : (band + 1) * width])
            keys[at : at + _ROWS] = band_keys(part, 1, extra[at : at + _ROWS])[:, 0]
            _release_pages(signatures)
        order = np.argsort(keys)  # equal keys may be in any order: their links connect the same group
        ordered = keys[order]
        repeats = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        if len(repeats):
            begins = np.maximum.accumulate(
                np.where(np.concatenate([[True], ordered[1:] != ordered[:-1]]), np.arange(count), 0)
            )
            firsts = order[begins[repeats]].astype(np.uint64)
            new_links = firsts << np.uint64(32) | order[repeats].astype(np.uint64)
            links = np.unique(np.concatenate([links, new_links]))
    return _connected(
        count, (links >> np.uint64(32)).astype(np.int64), (links & np.uint64(0xFFFFFFFF)).astype(np.int64)
    )


def _release_pages(signatures: np.ndarray) -> None:
    """Unmap the pages of a memory-mapped file that were read; the system caches them while it can."""
    if isinstance(signatures.base, mmap.mmap):
        signatures.base.madvise(mmap.MADV_DONTNEED)


def _connected(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The smallest row of the group of each row: the smaller label is passed along every link until none changes."""
    labels: np.ndarray = np.arange(count)
    while len(first):
        least = np.minimum(labels[first], labels[second])
        before = labels.copy()
        np.minimum.at(labels, labels[first], least)
        np.minimum.at(labels, labels[second], least)
        np.minimum.at(labels, first, least)
        np.minimum.at(labels, second, least)
        labels = labels[labels]
        if np.array_equal(labels, before):
            break
    return labels


def _rows_with_other_images(groups: np.ndarray, images: Sequence[Names]) -> np.ndarray:
    """Rows of groups with differing images: those whose images must be compared."""
    mixed: np.ndarray = np.zeros(len(groups), dtype=bool)
    for row in np.flatnonzero(groups != np.arange(len(groups))).tolist():
        if images[row] != images[groups[row]]:
            mixed[groups[row]] = True
    return np.flatnonzero(mixed[groups])


def _hash_images(names: set[str], images: Path) -> dict[str, PerceptualHash | None]:
    """Decoding releases the GIL, so threads share the work."""
    ordered = sorted(names)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(ordered, pool.map(perceptual_hash, [images / name for name in ordered]), strict=True))


def _image_keys(images: Sequence[Names], hashes: dict[str, PerceptualHash | None], distance: int) -> np.ndarray:
    """(n) uint64, equal for rows whose images are near."""
    decoded = {name: image for name, image in hashes.items() if image is not None}
    names = list(decoded)
    labels = look_alike_groups(list(decoded.values()), distance)
    representative = {name: names[label] for name, label in zip(names, labels.tolist(), strict=True)}

    def key(row_images: Names) -> int:
        if not row_images:
            return 0
        text = "\n".join(representative.get(name, name) for name in row_images)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    return np.fromiter(map(key, images), dtype=np.uint64, count=len(images))


def _drop_near_rows(
    signatures: np.ndarray, groups: np.ndarray, required: int, near: Callable[[int, int], bool] | None
) -> NearDuplicates:
    """Keep the first row of each group and drop every row near it; then the first of the remaining rows, and so on,
    for all groups at once."""
    sizes = np.bincount(groups, minlength=len(groups))
    rows = np.flatnonzero(sizes[groups] > 1)
    rows = rows[np.argsort(groups[rows], kind="stable")]
    dropped: list[np.ndarray] = [np.zeros((3, 0), dtype=np.int64)]
    while len(rows):
        is_first = np.concatenate([[True], groups[rows][1:] != groups[rows][:-1]])
        firsts = rows[is_first][np.cumsum(is_first) - 1]
        rows, firsts = rows[~is_first], firsts[~is_first]
        matches: np.ndarray = np.zeros(len(rows), dtype=np.int64)
        for at in range(0, len(rows), _SCATTERED):
            chunk = slice(at, at + _SCATTERED)
            matches[chunk] = np.count_nonzero(signatures[rows[chunk]] == signatures[firsts[chunk]], axis=1)
            _release_pages(signatures)
        is_near = matches >= required
        if near is not None:
            pairs = zip(rows[is_near].tolist(), firsts[is_near].tolist(), strict=True)
            is_near[is_near] = [near(row, first) for row, first in pairs]
        dropped.append(np.stack([rows[is_near], firsts[is_near], matches[is_near]]))
        rows = rows[~is_near]
    table = np.concatenate(dropped, axis=1)
    table = table[:, np.argsort(table[0], kind="stable")]
    return NearDuplicates(table[0], table[1], table[2] / NUM_HASHES)
