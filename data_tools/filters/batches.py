"""Rows of a pairs folder, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_tools.rows.preference import PreferencePair

_ROWS, _CHARS = 512, 8 << 20  # a batch ends at either


def in_batches(pairs: Iterable[PreferencePair]) -> Iterator[list[PreferencePair]]:
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
    """What a signature is made of."""
    return pair.question, pair.response_1, pair.response_2
