"""One judgement to make: a pair in one of its two orders, and the row it becomes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxygrm.critique import Problem, parse, parse_proxy_verdict, rubric_for_proxy
from proxygrm.evaluate.pairs import EvalPair

AS_IS, SWAPPED = "as_is", "swapped"


@dataclass(frozen=True)
class Shown:
    """A pair as the model sees it. `copy` counts earlier pairs with the same id, since benchmarks repeat ids."""

    pair: EvalPair
    order: str
    copy: int = 0

    @property
    def key(self) -> str:
        """Names the judgement in the files an interrupted run resumes from; changes with what is shown."""
        content = [self.pair.question, *self.responses, *(path.name for path in self.pair.images)]
        digest = hashlib.sha256("\0".join(content).encode(errors="backslashreplace")).hexdigest()[:12]
        return f"{self.pair.id}#{self.copy}/{self.order}/{digest}"

    @property
    def responses(self) -> tuple[str, str]:
        both = (self.pair.response_1, self.pair.response_2)
        return both if self.order == AS_IS else both[::-1]

    @property
    def label(self) -> int:
        """The better response as shown: 1 or 2."""
        return self.pair.label if self.order == AS_IS else 3 - self.pair.label


def shown_in_orders(pairs: Sequence[EvalPair], both_orders: bool = True) -> list[Shown]:
    """Both orders of a pair stand side by side: they share picture, instruction and question (prefix cache)."""
    seen: Counter[str] = Counter()
    shown = []
    for pair in pairs:
        for order in (AS_IS, SWAPPED) if both_orders else (AS_IS,):
            shown.append(Shown(pair, order, seen[pair.id]))
        seen[pair.id] += 1
    return shown


def judged_row(shown: Shown, answer: dict[str, Any], proxy: dict[str, Any] | None = None) -> dict[str, Any]:
    """One line of `TAG.jsonl`.

    `answer` and `proxy` are {text, tokens, truncated, problem}; `proxy` is None when the proxy was not asked.
    `correct` and `proxy_agrees` are None when there is no verdict to compare.
    """
    pair, (response_1, response_2) = shown.pair, shown.responses
    critique = parse(answer["text"])
    proxy_verdict = parse_proxy_verdict(proxy["text"]) if proxy else None
    return {
        "id": pair.id,
        "copy": shown.copy,
        "order": shown.order,
        "source": pair.source,
        "category": pair.category,
        "group": pair.group,
        "label": shown.label,
        "verdict": critique.verdict,
        "correct": None if critique.verdict is None else critique.verdict == shown.label,
        "well_formed": critique.well_formed,
        "names_winner": Problem.NAMES_WINNER in critique.problems,
        "problems": ["prompt_refused"] if answer["problem"] else [p.value for p in critique.problems],
        "refused": answer["problem"],
        "truncated": answer["truncated"],
        "tokens": answer["tokens"],
        "proxy_asked": proxy is not None,
        "proxy_verdict": proxy_verdict,
        "proxy_agrees": None if proxy_verdict is None else proxy_verdict == shown.label,
        "proxy_answer": proxy["text"] if proxy else None,
        "proxy_refused": proxy["problem"] if proxy else None,
        "critique": answer["text"],
        "rubric": rubric_for_proxy(answer["text"]),
        "items": [{"text": item.description, "weight": item.weight} for item in critique.items],
        "evaluation": critique.evaluation,
        "question": pair.question,
        "response_1": response_1,
        "response_2": response_2,
        "image": str(pair.images[0]) if pair.images else None,
        "images": [str(path) for path in pair.images],
        "image_missing": any(not path.is_file() for path in pair.images),
    }
