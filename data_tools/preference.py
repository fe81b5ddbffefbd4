"""The pairs folder, as the data tools see it. It lives in `proxygrm.pairs`, because judges read it too."""

from __future__ import annotations

from proxygrm.pairs import (
    SCHEMA_VERSION,
    PictureStore,
    PreferencePair,
    UnreadablePicture,
    arrange,
    label_counts,
    label_for,
    read_pairs,
    write_pairs,
)

__all__ = [
    "SCHEMA_VERSION",
    "PictureStore",
    "PreferencePair",
    "UnreadablePicture",
    "arrange",
    "label_counts",
    "label_for",
    "read_pairs",
    "write_pairs",
]
