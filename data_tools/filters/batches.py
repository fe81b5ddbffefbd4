"""Rows of a pairs folder in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_tools.rows.preference import PreferencePair

_ROWS, _CHARS = 512, 8 << 20  # limits of a batch


def in_batches(pairs: Iterable[PreferencePair]) -> Iterator[list[PreferencePair]]:
    """Batches of bounded size, in order."""
    rows: list[PreferencePair] = []
    chars = 0
    for pair in pairs:
        rows.append(pair)
        chars += sum(map(len, texts_of(pair)))
        if len(rows) == _ROWS or chars >= _CHARS:
            yield rows
            rows, chars = [], 0
    if rows:
        yield rows


def texts_of(pair: PreferencePair) -> tuple[str, str, str]:
    """The texts that a signature is computed from."""
    return pair.question, pair.response_1, pair.response_2
