"""Finds pairs that contradict an earlier one: the same question, images and responses with the opposite preference.

Annotators may disagree, so neither row is wrong, but training on both teaches nothing.
"""

from __future__ import annotations

import xxhash

from data_tools.inspect.inspected_rows import InspectedRow


class Contradictions:
    """Keeps two hashes and the position of the first row of each pair, about 250 bytes."""

    def __init__(self) -> None:
        # hash of question, images and responses -> hash of the better response, file, row
        self._first: dict[int, tuple[int, str, int]] = {}

    def find(self, row: InspectedRow) -> tuple[str, int] | None:
        """(file, row) of the earlier pair that this one contradicts."""
        responses = _better_and_worse(row)
        if row.problems or responses is None or responses[0] == responses[1]:
            return None
        better, _ = hashes = [_hash(text.encode("utf-8", "surrogatepass")) for text in responses]
        images = [image if isinstance(image, bytes) else str(image).encode() for image in row.images]
        question = row.texts.get("question", "").strip().encode("utf-8", "surrogatepass")
        key = _hash(repr([sorted(hashes), _hash(question), *map(_hash, images)]).encode())
        first_better, file, number = self._first.setdefault(key, (better, row.file, row.number))
        return None if first_better == better else (file, number)


def _better_and_worse(row: InspectedRow) -> tuple[str, str] | None:
    """The two responses; None for rows that are not pairs."""
    names = ("chosen", "rejected")
    if row.label in (1, 2):
        names = ("response_1", "response_2") if row.label == 1 else ("response_2", "response_1")
    better, worse = map(row.texts.get, names)
    return None if better is None or worse is None else (better.strip(), worse.strip())


def _hash(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)
