"""MinHash signatures of many texts at once, in numpy.

The word 3-grams of a row's texts (a shorter text is one shingle) form one set, so the order of the texts does not
matter. The share of the 128 values in which two signatures agree estimates the Jaccard index of the two sets (Broder
1997), with a standard deviation of at most sqrt(0.25 / 128) = 0.044.

Value p of a signature is the minimum of `(a_p * x + b_p) mod 2**32` over x, 32 bits of the hash of a shingle. All hash
functions are defined here, so a signature is the same on every machine and with every version of the libraries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from data_tools.filters.normalize_text import separate_words

NUM_HASHES = 128
TEXT_CHARS = 1 << 20  # of a text; the rest is ignored, which bounds the memory of a row
_BLOCK = 1 << 17  # characters of text whose words are hashed at once
_CHUNK = 1 << 16  # shingles hashed at once by the 128 functions: 256 kB, which fit into the cache
_BASE = 0x9E3779B97F4A7C15  # odd, so it is invertible modulo 2**64

_FIRST, _SECOND = np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)

# The effect of `separate_words` on ASCII bytes: lower case, and white space (of str.split) becomes a space.
_LOWER = bytes(32 if chr(i).isspace() else ord(chr(i).lower()) for i in range(128)) + bytes(range(128, 256))
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)  # the first `count` bytes of eight


def signatures(rows: Sequence[tuple[str, ...]]) -> np.ndarray:
    """rows: the texts of each row, equally many -> (len(rows), 128) uint32; all ones for a row without words."""
    with np.errstate(over="ignore"):
        shingles, first = _shingles(rows)
        return _minima(shingles, first)


def bands_for(threshold: float) -> int:
    """Number of equal bands such that every pair whose estimate reaches `threshold` agrees in a whole band.

    Pairs at the threshold disagree in at most `128 * (1 - threshold)` values; with more bands than that, at least one
    band has no disagreement. So no candidate is missed, unlike with probabilistic banding. 32 bands at 0.8.
    """
    disagreeing = NUM_HASHES - min_matches(threshold)
    return next(bands for bands in (1, 2, 4, 8, 16, 32, 64, 128) if bands > disagreeing)


def min_matches(threshold: float) -> int:
    """Number of values that must agree for an estimate of at least `threshold`."""
    return math.ceil(threshold * NUM_HASHES - 1e-9)


def band_keys(rows: np.ndarray, bands: int, start: np.ndarray | None = None) -> np.ndarray:
    """(n, values) uint32 -> (n, bands) uint64: a hash of each band and of `start`, n numbers that must also agree."""
    with np.errstate(over="ignore"):
        cut = rows.reshape(len(rows), bands, rows.shape[1] // bands)
        keys: np.ndarray = np.zeros(cut.shape[:2], dtype=np.uint64)
        if start is not None:
            keys += _mixed(start)[:, None]
        for place in range(cut.shape[2]):
            keys = _mixed(keys * np.uint64(_BASE) + cut[:, :, place] + np.uint64(1))
        return keys


def _shingles(rows: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """(32-bit hashes of the shingles of all rows, n + 1 positions at which those of each row start)."""
    texts = [text[:TEXT_CHARS] for row in rows for text in row]
    words, counts = _words([text if text.isascii() else separate_words(text) for text in texts])  # ASCII: see _LOWER
    ends = np.cumsum(counts)
    begins = ends - counts
    hashes = words * _FIRST
    hashes[:-1] += words[1:] * _SECOND
    hashes[:-2] += words[2:]
    complete: np.ndarray = np.ones(len(words) + 2, dtype=bool)  # false across the end of a text
    lasts = ends[counts > 0] - 1
    complete[lasts] = complete[np.maximum(lasts - 1, 0)] = False
    for length in (1, 2):  # a text of fewer than three words is one shingle
        short = begins[counts == length]
        hashes[short] = words[short] * _FIRST + (words[short + 1] * _SECOND if length == 2 else 0)
        complete[short] = True
    hashes = _mixed(hashes[complete[: len(words)]])
    per_text = np.where(counts > 2, counts - 2, np.minimum(counts, 1))
    per_row = per_text.reshape(len(rows), -1).sum(axis=1) if len(rows) else per_text
    return (hashes >> np.uint64(32)).astype(np.uint32), np.concatenate([[0], np.cumsum(per_row)])


def _words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(64-bit hashes of all words, number of words of each text), computed in blocks of about 128 kB."""
    blocks: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size >= _BLOCK:
            blocks.append([])
            size = 0
        blocks[-1].append(text)
        size += len(text) + 1
    results = [_words_of_block(block) for block in blocks]
    return np.concatenate([hashes for hashes, _ in results]), np.concatenate([counts for _, counts in results])


def _words_of_block(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes all words at once, eight bytes at a time; the few words above 64 bytes are hashed one by one."""
    data = f" {' '.join(texts)} {' ' * 8}".encode().translate(_LOWER)
    is_space = np.frombuffer(data, dtype=np.uint8)[:-8] == 32
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1  # begin, end, begin, end, ...
    begins, ends = edges[0::2], edges[1::2]
    lengths = ends - begins
    eight: np.ndarray = np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))  # 8 bytes from each position
    hashes = _mixed((eight[begins] & _MASKS[np.minimum(lengths, 8)]) + lengths.astype(np.uint64) * _FIRST)
    longer = np.flatnonzero(lengths > 8)
    for at in range(8, 64, 8):
        part = eight[begins[longer] + at] & _MASKS[np.minimum(lengths[longer] - at, 8)]
        hashes[longer] = _mixed(hashes[longer] * _SECOND + part)
        longer = longer[lengths[longer] > at + 8]
    for word in longer.tolist():
        digest = hashlib.blake2b(data[begins[word] : ends[word]], digest_size=8).digest()
        hashes[word] = int.from_bytes(digest, "little")
    sizes = np.array([len(text) if text.isascii() else len(text.encode()) for text in texts], dtype=np.int64)
    return hashes, np.diff(np.searchsorted(begins, np.cumsum(sizes + 1) + 1), prepend=0)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mix 64 bits (the finaliser of splitmix64)."""
    values = values.astype(np.uint64)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _minima(shingles: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The 128 minima of each row, computed in chunks of whole rows."""
    count = len(first) - 1
    minima: np.ndarray = np.full((NUM_HASHES, count), 0xFFFFFFFF, dtype=np.uint32)
    factors, terms = _functions()
    filled = np.flatnonzero(first[1:] > first[:-1])  # rows that have shingles
    starts = first[filled]
    at = 0
    while at < len(filled):
        end = max(int(np.searchsorted(starts, starts[at] + _CHUNK)), at + 1)
        chunk = shingles[starts[at] : first[filled[end - 1] + 1]]
        begins, rows = starts[at:end] - starts[at], filled[at:end]
        values = np.empty_like(chunk)
        for place in range(NUM_HASHES):
            np.multiply(chunk, factors[place], out=values)
            np.add(values, terms[place], out=values)
            minima[place, rows] = np.minimum.reduceat(values, begins)
        at = end
    return np.ascontiguousarray(minima.T)


@cache
def _functions() -> tuple[np.ndarray, np.ndarray]:
    """Odd factors and terms of the 128 functions; they must never change."""
    numbers = _mixed(np.arange(1, 2 * NUM_HASHES + 1, dtype=np.uint64) * np.uint64(_BASE))
    numbers = (numbers >> np.uint64(32)).astype(np.uint32)
    return numbers[:NUM_HASHES] | np.uint32(1), numbers[NUM_HASHES:]
