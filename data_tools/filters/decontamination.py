"""Rows that stand in a benchmark, in whole or in part: by picture, and by question with both responses.

| reason                 | the row and a row of the benchmark                                                     |
|------------------------|----------------------------------------------------------------------------------------|
| benchmark_picture      | share a picture, byte for byte                                                         |
| benchmark_near_picture | have pictures that look the same (off unless a distance is given)                      |
| benchmark_pair         | have the same question and responses, in either order; case and spaces do not count    |
| benchmark_near_pair    | have nearly the same texts (MinHash), in either order                                  |

One of them is enough. Texts count whatever the pictures are: releases scale and compress the same picture anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from data_tools.filters.batches import in_batches, texts_of
from data_tools.filters.minhash import PLACES, agreeing, band_keys, bands_for, signatures
from data_tools.filters.picture_likeness import LikenessIndex, likeness
from data_tools.filters.plain_text import squeezed
from data_tools.filters.similarity import check_distance
from data_tools.ingest.picture_paths import blank_picture
from data_tools.rows.preference import PreferencePair, iter_pairs, picture_hash
from proxygrm.core.errors import UserError

Reason = Literal["benchmark_picture", "benchmark_near_picture", "benchmark_pair", "benchmark_near_pair"]


@dataclass(frozen=True)
class DecontaminationSettings:
    pictures: bool = True
    """A shared picture is enough: with it in training, a model can learn the picture instead of judging it. A
    training set loses few rows by it, and a benchmark loses its worth without it."""
    picture_distance: int | None = None
    """Look-alikes up to this many bits of 64 apart. Off: every picture has to be decoded (1 to 20 ms), and pages and
    charts that differ only in small print look the same to it. 2 finds copies that were scaled or compressed."""
    near_text: float | None = 0.8
    """As for near-duplicates; None looks for equal texts only."""

    def __post_init__(self) -> None:
        if self.picture_distance is not None:
            check_distance("decontamination.picture_distance", self.picture_distance)
        if self.near_text is not None and not 0.5 <= self.near_text <= 1:
            raise UserError(f"decontamination.near_text is {self.near_text:g}; it must be from 0.5 to 1")


class Hit(NamedTuple):
    reason: Reason
    detail: str  # ends in the row of the benchmark, FOLDER/ID


class Benchmarks:
    """The rows of benchmarks, to look others up in. About 2 kB a row of a benchmark."""

    def __init__(self, folders: Sequence[Path], settings: DecontaminationSettings) -> None:
        self._settings = settings
        self._pictures: dict[str, str] = {}
        self._pairs: dict[bytes, str] = {}
        self._names: list[str] = []
        signs: list[np.ndarray] = [np.zeros((0, PLACES), dtype=np.uint32)]
        looks: dict[str, str] = {}
        blank = hashlib.sha256(blank_picture()).hexdigest()  # stands for pictures that are missing: says nothing
        for folder in folders:
            for rows in in_batches(iter_pairs(folder)):
                if settings.near_text:
                    signs.append(signatures([texts_of(pair) for pair in rows]))
                for pair in rows:
                    name = f"{folder.resolve().name}/{pair.id}"
                    self._names.append(name)
                    self._pairs.setdefault(_pair_key(pair), name)
                    for image in (image for image in pair.images if picture_hash(image) != blank):
                        self._pictures.setdefault(picture_hash(image), name)
                        looks[str(folder / "images" / image)] = name
        self._looks: LikenessIndex | None = None
        if settings.picture_distance is not None:
            found = ((name, likeness(Path(path))) for path, name in looks.items())
            self._looks = LikenessIndex([(name, look) for name, look in found if look], settings.picture_distance)
        self._signs = np.concatenate(signs)
        if settings.near_text:
            self._bands = bands_for(settings.near_text)
            keys = band_keys(self._signs, self._bands)
            self._order: np.ndarray = np.argsort(keys, axis=0, kind="stable")
            self._keys = np.take_along_axis(keys, self._order, axis=0)

    def hits(self, pairs: Sequence[PreferencePair], signs: np.ndarray | None, images: Path) -> list[Hit | None]:
        """For each row the first hit in the order of the table above. signs: (n, 128), None: no near texts."""
        found = [self._certain(pair, images) for pair in pairs]
        if signs is not None and self._settings.near_text and self._names:
            for row, hit in self._near_texts(signs).items():
                found[row] = found[row] or hit
        return found

    def _certain(self, pair: PreferencePair, images: Path) -> Hit | None:
        if self._settings.pictures:
            for image in pair.images:
                if name := self._pictures.get(picture_hash(image)):
                    return Hit("benchmark_picture", f"the picture of {name}")
        for image in pair.images if self._looks else ():
            look = likeness(images / image)
            if look and self._looks and (near := self._looks.first_near(look)):
                return Hit("benchmark_near_picture", f"a picture like that of {near}")
        if name := self._pairs.get(_pair_key(pair)):
            return Hit("benchmark_pair", f"the texts of {name}")
        return None

    def _near_texts(self, signs: np.ndarray) -> dict[int, Hit]:
        """Row -> the nearest row of a benchmark, the first of equals."""
        keys = band_keys(signs, self._bands)
        candidates: set[tuple[int, int]] = set()
        for band in range(self._bands):
            known, order = self._keys[:, band], self._order[:, band]
            asked = keys[:, band]
            spans = np.stack([np.searchsorted(known, asked, side=side) for side in ("left", "right")], axis=1)
            for row in np.flatnonzero(spans[:, 1] > spans[:, 0]).tolist():
                begin, end = spans[row].tolist()
                candidates.update((row, other) for other in order[begin:end].tolist())
        best: dict[int, tuple[int, int]] = {}
        need = agreeing(self._settings.near_text or 1)
        for row, other in sorted(candidates):
            agree = int(np.count_nonzero(signs[row] == self._signs[other]))
            if agree >= need and agree > best.get(row, (0, 0))[0]:
                best[row] = (agree, other)
        return {
            row: Hit("benchmark_near_pair", f"similarity {agree / PLACES:.2f} to {self._names[other]}")
            for row, (agree, other) in best.items()
        }


def _pair_key(pair: PreferencePair) -> bytes:
    question, *responses = map(squeezed, texts_of(pair))
    digest = hashlib.blake2b(digest_size=16)
    for text in (question, *sorted(responses)):
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
