"""Pairs that say the opposite of an earlier one: the same question, pictures and responses, but the other is better.

People may differ, so both rows are whole; but one of them teaches what the other one unteaches.
"""

from __future__ import annotations

import xxhash

from data_tools.inspect.seen import Seen


class Contradictions:
    """Remembers two hashes and the place of the first row of each pair, about 250 bytes."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[int, str, int]] = {}  # what is judged -> the better response, file, row

    def opposite(self, row: Seen) -> tuple[str, int] | None:
        """(file, row) of the earlier pair that this one contradicts."""
        responses = _better_and_worse(row)
        if row.problems or responses is None or responses[0] == responses[1]:
            return None
        better, _ = hashes = [_hash(text.encode("utf-8", "surrogatepass")) for text in responses]
        pictures = [picture if isinstance(picture, bytes) else str(picture).encode() for picture in row.pictures]
        question = row.texts.get("question", "").strip().encode("utf-8", "surrogatepass")
        judged = _hash(repr([sorted(hashes), _hash(question), *map(_hash, pictures)]).encode())
        said, file, number = self._first.setdefault(judged, (better, row.file, row.number))
        return None if said == better else (file, number)


def _better_and_worse(row: Seen) -> tuple[str, str] | None:
    """None for rows that are no pairs."""
    names = ("chosen", "rejected")
    if row.label in (1, 2):
        names = ("response_1", "response_2") if row.label == 1 else ("response_2", "response_1")
    better, worse = map(row.texts.get, names)
    return None if better is None or worse is None else (better.strip(), worse.strip())


def _hash(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)
