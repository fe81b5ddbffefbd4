"""Finds rows that are in a benchmark, completely or partly: by image, and by question with both responses.

| reason                 | the row and a row of the benchmark                                                     |
|------------------------|----------------------------------------------------------------------------------------|
| benchmark_image        | share an image, byte for byte                                                          |
| benchmark_near_image   | have images that look the same (off unless a distance is given)                        |
| benchmark_pair         | have the same question and responses, in either order, ignoring case and spaces        |
| benchmark_near_pair    | have nearly the same texts (MinHash), in either order                                  |

One of them is enough. Texts are compared whatever the images: releases rescale and recompress the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from data_tools.filters.batches import in_batches, texts_of
from data_tools.filters.minhash import NUM_HASHES, band_keys, bands_for, min_matches, signatures
from data_tools.filters.normalize_text import normalize_spaces
from data_tools.filters.perceptual_hash import PerceptualHashIndex, perceptual_hash
from data_tools.filters.similarity import check_distance
from data_tools.ingest.image_paths import blank_image
from data_tools.rows.preference import PreferencePair, image_hash, iter_pairs
from proxygrm.core.errors import UserError

Reason = Literal["benchmark_image", "benchmark_near_image", "benchmark_pair", "benchmark_near_pair"]


@dataclass(frozen=True)
class DecontaminationSettings:
    images: bool = True
    """Drop rows that share an image: a model trained on it can memorise the image instead of judging it. A training
    set loses few rows this way, and without it a benchmark is contaminated."""
    image_distance: int | None = None
    """Drop look-alikes up to this distance (bits of 64). Off by default: every image must be decoded (1 to 20 ms), and
    pages and charts that differ only in small print look the same. 2 finds rescaled or recompressed copies."""
    near_text: float | None = 0.8
    """Similarity as for near-duplicates; None: only equal texts."""

    def __post_init__(self) -> None:
        if self.image_distance is not None:
            check_distance("decontamination.image_distance", self.image_distance)
        if self.near_text is not None and not 0.5 <= self.near_text <= 1:
            raise UserError(
                f"decontamination.near_text is {self.near_text:g}; it must be from 0.5 to 1",
                code="settings.out-of-range", name="decontamination.near_text", value=self.near_text,
            )  # fmt: skip


class Hit(NamedTuple):
    reason: Reason
    detail: str  # ends with the row of the benchmark, FOLDER/ID


class BenchmarkIndex:
    """Rows of benchmarks, for look-up. Memory: about 2 kB per row."""

    def __init__(self, folders: Sequence[Path], settings: DecontaminationSettings) -> None:
        self._settings = settings
        self._images: dict[str, str] = {}
        self._pairs: dict[bytes, str] = {}
        self._names: list[str] = []
        batches: list[np.ndarray] = [np.zeros((0, NUM_HASHES), dtype=np.uint32)]
        image_names: dict[str, str] = {}  # path -> row
        blank = hashlib.sha256(blank_image()).hexdigest()  # replaces missing images, so it says nothing
        for folder in folders:
            for rows in in_batches(iter_pairs(folder)):
                if settings.near_text:
                    batches.append(signatures([texts_of(pair) for pair in rows]))
                for pair in rows:
                    name = f"{folder.resolve().name}/{pair.id}"
                    self._names.append(name)
                    self._pairs.setdefault(_pair_key(pair), name)
                    for image in (image for image in pair.images if image_hash(image) != blank):
                        self._images.setdefault(image_hash(image), name)
                        image_names[str(folder / "images" / image)] = name
        self._hashes: PerceptualHashIndex | None = None
        if settings.image_distance is not None:
            hashes = ((name, perceptual_hash(Path(path))) for path, name in image_names.items())
            readable = [(name, value) for name, value in hashes if value]
            self._hashes = PerceptualHashIndex(readable, settings.image_distance)
        self._signatures = np.concatenate(batches)
        if settings.near_text:
            self._bands = bands_for(settings.near_text)
            keys = band_keys(self._signatures, self._bands)
            self._order: np.ndarray = np.argsort(keys, axis=0, kind="stable")
            self._keys = np.take_along_axis(keys, self._order, axis=0)

    def find(
        self, pairs: Sequence[PreferencePair], row_signatures: np.ndarray | None, images: Path
    ) -> list[Hit | None]:
        """For each row the first hit in the order of the table above. row_signatures: (n, 128), None: no near texts."""
        hits = [self._exact_hit(pair, images) for pair in pairs]
        if row_signatures is not None and self._settings.near_text and self._names:
            for row, hit in self._near_texts(row_signatures).items():
                hits[row] = hits[row] or hit
        return hits

    def _exact_hit(self, pair: PreferencePair, images: Path) -> Hit | None:
        if self._settings.images:
            for image in pair.images:
                if name := self._images.get(image_hash(image)):
                    return Hit("benchmark_image", f"the image of {name}")
        for image in pair.images if self._hashes else ():
            look = perceptual_hash(images / image)
            if look and self._hashes and (near := self._hashes.first_near(look)):
                return Hit("benchmark_near_image", f"an image like that of {near}")
        if name := self._pairs.get(_pair_key(pair)):
            return Hit("benchmark_pair", f"the texts of {name}")
        return None

    def _near_texts(self, row_signatures: np.ndarray) -> dict[int, Hit]:
        """Row -> hit with the most similar row of a benchmark, the first of equals."""
        keys = band_keys(row_signatures, self._bands)
        candidates: set[tuple[int, int]] = set()
        for band in range(self._bands):
            known, order = self._keys[:, band], self._order[:, band]
            queries = keys[:, band]
            spans = np.stack([np.searchsorted(known, queries, side=side) for side in ("left", "right")], axis=1)
            for row in np.flatnonzero(spans[:, 1] > spans[:, 0]).tolist():
                begin, end = spans[row].tolist()
                candidates.update((row, other) for other in order[begin:end].tolist())
        best: dict[int, tuple[int, int]] = {}
        required = min_matches(self._settings.near_text or 1)
        for row, other in sorted(candidates):
            matches = int(np.count_nonzero(row_signatures[row] == self._signatures[other]))
            if matches >= required and matches > best.get(row, (0, 0))[0]:
                best[row] = (matches, other)
        return {
            row: Hit("benchmark_near_pair", f"similarity {matches / NUM_HASHES:.2f} to {self._names[other]}")
            for row, (matches, other) in best.items()
        }


def _pair_key(pair: PreferencePair) -> bytes:
    question, *responses = map(normalize_spaces, texts_of(pair))
    digest = hashlib.blake2b(digest_size=16)
    for text in (question, *sorted(responses)):
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
