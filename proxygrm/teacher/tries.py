"""One try of a teacher at a pair, and how many tries a pair took."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.pairs import PreferencePair
from proxygrm.critique.contracts import KINDS
from proxygrm.serving.chat.answer import ChatAnswer
from proxygrm.serving.chat.request import ChatRequest, image_part_of_file
from proxygrm.teacher.critiques import CritiqueRow, critique_row

NEVER = "never"
"""In place of a number of tries: none was right, and no try is left."""


@dataclass(frozen=True)
class Try:
    contract: str
    attempt: int
    seed: int | None

    @property
    def swapped(self) -> bool:
        """Every second time: the pairs' own order is balanced already."""
        return self.attempt % 2 == 0

    def body(self, pair: PreferencePair, pairs_dir: Path, model: str, temperature: float, max_tokens: int) -> bytes:
        """Raises OSError for an image that cannot be read."""
        first, second = (pair.response_1, pair.response_2)[:: -1 if self.swapped else 1]
        prompt = KINDS[self.contract].ask(pair.question, first, second, images=0)
        extra = {} if self.seed is None else {"seed": self.seed}
        request = ChatRequest.build(model, prompt, max_tokens=max_tokens, temperature=temperature, extra=extra)
        return request.body([image_part_of_file(path) for path in pair.image_paths(pairs_dir)])

    def row(self, pair_id: str, answer: ChatAnswer, model: str) -> CritiqueRow:
        text, cause = answer.text, answer.cause
        return critique_row(pair_id, text, model, cause, self.contract, self.attempt, self.swapped, self.seed)


def seed_of(seed: int, pair_id: str, attempt: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{pair_id}/{attempt}".encode()).digest()[:4]) >> 1


def by_pair(rows: Sequence[CritiqueRow]) -> Mapping[str, list[CritiqueRow]]:
    by_pair: dict[str, list[CritiqueRow]] = defaultdict(list)
    for row in rows:
        by_pair[row.id].append(row)
    return by_pair


def is_finished(pair: PreferencePair, rows: Sequence[CritiqueRow], tries: int) -> bool:
    return any(row.right(pair.label) or row.attempt >= tries for row in rows)


def tries_until_right(
    rows_of_pairs: Sequence[tuple[PreferencePair, Sequence[CritiqueRow]]], tries: int
) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for pair, rows in rows_of_pairs:
        right = [row.attempt for row in rows if row.right(pair.label)]
        if right or is_finished(pair, rows, tries):
            counts[str(min(right)) if right else NEVER] += 1
    return dict(sorted(counts.items()))
