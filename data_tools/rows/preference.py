"""The pairs folder, as the data tools see it. It lives in `proxygrm.core.pairs`, because judges read it too."""

from __future__ import annotations

from proxygrm.core.images.settle import UnreadableImage as UnreadablePicture
from proxygrm.core.images.store import PictureStore, picture_hash
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
    "PairsWriter",
    "PictureStore",
    "PreferencePair",
    "UnreadablePicture",
    "arrange",
    "count_pairs",
    "iter_pairs",
    "label_counts",
    "label_for",
    "pair_groups",
    "picture_hash",
    "read_pairs",
    "write_pairs",
]
