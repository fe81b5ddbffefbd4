"""The pairs of `--pairs`, to look up what a foreign row does not say of its pair."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path

from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.pairs import EvalPair, load_pairs


def released_id(pair: EvalPair) -> str:
    return bare_id(pair.id, pair.source)


def better_and_worse(pair: EvalPair) -> tuple[str, str]:
    both = pair.response_1, pair.response_2
    return both if pair.label == 1 else (both[1], both[0])


class KnownPairs:
    """Loaded when first asked for. path: None where no pairs were given."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @property
    def given(self) -> bool:
        return self.path is not None

    @cached_property
    def pairs(self) -> list[EvalPair]:
        return load_pairs(self.path) if self.path else []

    @cached_property
    def _by_texts(self) -> dict[tuple[str, str], list[EvalPair]]:
        found: dict[tuple[str, str], list[EvalPair]] = defaultdict(list)
        for pair in self.pairs:
            better, worse = better_and_worse(pair)
            found[_plain(better), _plain(worse)].append(pair)
        return found

    @cached_property
    def _by_id(self) -> dict[str, list[EvalPair]]:
        found: dict[str, list[EvalPair]] = defaultdict(list)
        for pair in self.pairs:
            found[released_id(pair)].append(pair)
        return found

    def with_texts(self, question: str, better: str, worse: str) -> EvalPair | None:
        """The pair of these responses; of several, the one with this question. Blanks do not count."""
        found = self._by_texts.get((_plain(better), _plain(worse)), [])
        same = [pair for pair in found if _plain(pair.question) == _plain(question)]
        return same[0] if same else found[0] if len(found) == 1 else None

    def with_id(self, released: str) -> list[EvalPair]:
        return self._by_id.get(released, [])


def _plain(text: str) -> str:
    return " ".join(text.split())
