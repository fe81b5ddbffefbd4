"""The pairs folder, for the data tools. It is defined in `proxygrm.core.pairs`, because judges read it too."""

from __future__ import annotations

from proxygrm.core.images.settle import UnreadableImage as UnreadableImage
from proxygrm.core.images.store import ImageStore, image_hash
from proxygrm.core.pairs import (
    SCHEMA_VERSION,
    PairsWriter,
    PreferencePair,
    arrange,
    count_pairs,
    iter_pairs,
    label_counts,
    label_for,
    pair_groups,
    read_pairs,
    write_pairs,
)

__all__ = [
    "SCHEMA_VERSION",
    "ImageStore",
    "PairsWriter",
    "PreferencePair",
    "UnreadableImage",
    "arrange",
    "count_pairs",
    "image_hash",
    "iter_pairs",
    "label_counts",
    "label_for",
    "pair_groups",
    "read_pairs",
    "write_pairs",
]
