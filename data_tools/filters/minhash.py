"""MinHash signatures of many texts at once, in numpy.

A row's texts are sets of word 3-grams (a shorter text is one shingle), put together in one set: the order of the
texts makes no difference. The share of the 128 places at which two signatures agree estimates the Jaccard index of
the two sets (Broder 1997), with a standard deviation of at most sqrt(0.25 / 128) = 0.044.

Place p of a signature is the minimum of `(a_p * x + b_p) mod 2**32`, x being 32 bits of a shingle's hash. All hashes
are written out here, so a signature is the same on every machine and under every version of the libraries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from data_tools.filters.plain_text import spaced

PLACES = 128
SIGNATURE_BYTES = 4 * PLACES  # a row
TEXT_CHARS = 1 << 20  # of a text; what comes after is not looked at, so that one row's memory has a bound
_BLOCK = 1 << 17  # characters of text whose words are hashed at once
_CHUNK = 1 << 16  # shingles that pass through the 128 functions at once: 256 kB, so they stay in the cache
_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2**64

_FIRST, _SECOND = np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)

# What `spaced` does to ASCII, byte by byte: lower case, and what str.split takes as white space as a space.
_LOWER = bytes(32 if chr(i).isspace() else ord(chr(i).lower()) for i in range(128)) + bytes(range(128, 256))
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)  # the first `count` bytes of eight


def signatures(rows: Sequence[tuple[str, ...]]) -> np.ndarray:
    """rows: the texts of each, equally many -> (len(rows), 128) uint32; the largest number for a row without words."""
    with np.errstate(over="ignore"):
        shingles, first = _shingles(rows)
        return _minima(shingles, first)


def bands_for(threshold: float) -> int:
    """Into how many equal bands a signature is cut, so that every pair whose estimate reaches `threshold` shares one.

    Pairs at the threshold disagree in `128 * (1 - threshold)` places at most; with more bands than that, one band
    is without disagreement. So candidates are complete by counting, not with some chance. 32 bands at 0.8.
    """
    disagreeing = PLACES - agreeing(threshold)
    return next(bands for bands in (1, 2, 4, 8, 16, 32, 64, 128) if bands > disagreeing)


def agreeing(threshold: float) -> int:
    """Places that must agree for an estimate of at least `threshold`."""
    return math.ceil(threshold * PLACES - 1e-9)


def band_keys(signs: np.ndarray, bands: int, start: np.ndarray | None = None) -> np.ndarray:
    """(n, places) uint32 -> (n, bands) uint64: a hash of each band and of `start`, n numbers that must agree too."""
    with np.errstate(over="ignore"):
        cut = signs.reshape(len(signs), bands, signs.shape[1] // bands)
        keys: np.ndarray = np.zeros(cut.shape[:2], dtype=np.uint64)
        if start is not None:
            keys += _mixed(start)[:, None]
        for place in range(cut.shape[2]):
            keys = _mixed(keys * np.uint64(_BASE) + cut[:, :, place] + np.uint64(1))
        return keys


def _shingles(rows: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """(32-bit hashes of all rows' shingles, (n + 1) positions where each row's begin)."""
    texts = [text[:TEXT_CHARS] for row in rows for text in row]
    words, counts = _words([text if text.isascii() else spaced(text) for text in texts])  # ASCII: see _LOWER
    ends = np.cumsum(counts)
    begins = ends - counts
    hashes = words * _FIRST
    hashes[:-1] += words[1:] * _SECOND
    hashes[:-2] += words[2:]
    whole: np.ndarray = np.ones(len(words) + 2, dtype=bool)  # no shingle goes over the end of its text
    lasts = ends[counts > 0] - 1
    whole[lasts] = whole[np.maximum(lasts - 1, 0)] = False
    for length in (1, 2):  # a text of fewer than three words is one shingle
        short = begins[counts == length]
        hashes[short] = words[short] * _FIRST + (words[short + 1] * _SECOND if length == 2 else 0)
        whole[short] = True
    hashes = _mixed(hashes[whole[: len(words)]])
    per_text = np.where(counts > 2, counts - 2, np.minimum(counts, 1))
    per_row = per_text.reshape(len(rows), -1).sum(axis=1) if len(rows) else per_text
    return (hashes >> np.uint64(32)).astype(np.uint32), np.concatenate([[0], np.cumsum(per_row)])


def _words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(64-bit hashes of all words, words of each text). The texts pass in blocks of about 128 kB."""
    blocks: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size >= _BLOCK:
            blocks.append([])
            size = 0
        blocks[-1].append(text)
        size += len(text) + 1
    found = [_words_of_block(block) for block in blocks]
    return np.concatenate([hashes for hashes, _ in found]), np.concatenate([counts for _, counts in found])


def _words_of_block(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Words are read eight bytes at a time, all words at once; the few above 64 bytes are hashed one by one."""
    data = f" {' '.join(texts)} {' ' * 8}".encode().translate(_LOWER)
    is_space = np.frombuffer(data, dtype=np.uint8)[:-8] == 32
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1  # begin, end, begin, end, ...
    begins, ends = edges[0::2], edges[1::2]
    lengths = ends - begins
    eight: np.ndarray = np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))  # the 8 bytes from each on
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
    """Spread 64 bits over 64 bits (the finisher of splitmix64)."""
    values = values.astype(np.uint64)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _minima(shingles: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The 128 minima of each row, over chunks of whole rows."""
    count = len(first) - 1
    signs: np.ndarray = np.full((PLACES, count), 0xFFFFFFFF, dtype=np.uint32)
    factors, terms = _functions()
    filled = np.flatnonzero(first[1:] > first[:-1])  # rows that have shingles
    starts = first[filled]
    at = 0
    while at < len(filled):
        end = max(int(np.searchsorted(starts, starts[at] + _CHUNK)), at + 1)
        chunk = shingles[starts[at] : first[filled[end - 1] + 1]]
        begins, rows = starts[at:end] - starts[at], filled[at:end]
        values = np.empty_like(chunk)
        for place in range(PLACES):
            np.multiply(chunk, factors[place], out=values)
            np.add(values, terms[place], out=values)
            signs[place, rows] = np.minimum.reduceat(values, begins)
        at = end
    return np.ascontiguousarray(signs.T)


@cache
def _functions() -> tuple[np.ndarray, np.ndarray]:
    """Odd factors and terms of the 128 functions, fixed for ever."""
    numbers = _mixed(np.arange(1, 2 * PLACES + 1, dtype=np.uint64) * np.uint64(_BASE))
    numbers = (numbers >> np.uint64(32)).astype(np.uint32)
    return numbers[:PLACES] | np.uint32(1), numbers[PLACES:]
