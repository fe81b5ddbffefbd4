"""One judgement to make: a pair in one of its two orders, and the row it becomes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from proxygrm.core.labels import Label
from proxygrm.critique.contract import Critique, Problem, parse, parse_proxy_verdict, rubric_for_proxy
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.settings import AS_GIVEN, BOTH, HASHED
from proxygrm.serving.chat_answer import after_thought

AS_IS, SWAPPED = "as_is", "swapped"


@dataclass(frozen=True)
class Shown:
    """A pair as the model sees it. `copy` counts earlier pairs with the same id, since benchmarks repeat ids; `sample`
    counts the votes of one judge on the same sight."""

    pair: EvalPair
    order: str
    copy: int = 0
    sample: int = 0

    @cached_property
    def key(self) -> str:
        """Names the judgement in the files an interrupted run resumes from; changes with what is shown, a picture that
        was not there included."""
        pictures = [path.name if path.is_file() else f"no {path.name}" for path in self.pair.images]
        content = [self.pair.question, *self.responses, *pictures]
        digest = hashlib.sha256("\0".join(content).encode(errors="backslashreplace")).hexdigest()[:12]
        return f"{self.pair.id}#{self.copy}/{self.order}/{digest}" + (f"/{self.sample}" if self.sample else "")

    @property
    def responses(self) -> tuple[str, str]:
        both = (self.pair.response_1, self.pair.response_2)
        return both if self.order == AS_IS else both[::-1]

    @property
    def label(self) -> int:
        """The better response as shown: 1 or 2."""
        return self.pair.label if self.order == AS_IS else 3 - self.pair.label


def shown_in_orders(pairs: Sequence[EvalPair], orders: str | bool = BOTH, votes: int = 1, seed: int = 0) -> list[Shown]:
    """The judgements to make, in the order of the pairs; `orders` is one of `settings.ORDERS` (True: both, False: as
    given).

    Those of one pair stand side by side: they share picture, instruction and question (prefix cache).
    """
    orders = orders if isinstance(orders, str) else BOTH if orders else AS_GIVEN
    seen: Counter[str] = Counter()
    shown = []
    for pair in pairs:
        for sample in range(votes):
            sights = (AS_IS, SWAPPED) if orders == BOTH else (AS_IS,)
            if orders == HASHED:
                sights = (hashed_order(pair, seed, sample),)
            shown += [Shown(pair, order, seen[pair.id], sample) for order in sights]
        seen[pair.id] += 1
    return shown


def hashed_order(pair: EvalPair, seed: int, sample: int = 0) -> str:
    """An order that looks drawn, but depends on nothing but the seed, the vote, and what the pair says: not on its
    place in the file, nor on which response stands first there."""
    better, worse = (pair.response_1, pair.response_2)[:: 1 if pair.label == 1 else -1]
    content = [str(seed), str(sample), pair.question, better, worse, *(path.name for path in pair.images)]
    better_first = hashlib.sha256("\0".join(content).encode(errors="backslashreplace")).digest()[0] % 2 == 0
    return AS_IS if better_first == (pair.label == 1) else SWAPPED


def judged_row(shown: Shown, answer: dict[str, Any], proxy: dict[str, Any] | None = None) -> dict[str, Any]:
    """One line of `TAG.jsonl` or `answers.jsonl`.

    `answer` and `proxy` are {text, tokens, truncated, problem}, more of `answer` is optional; `proxy` is None when the
    proxy was not asked. The `cause` of an answer without text (`chat_answer`) stands first among the `problems`. A
    scalar judge's answer has `scores`, as shown, from which the verdict follows ("tie" when they
    are equal). `correct` and `proxy_agrees` are None when there is no verdict to compare.
    """
    pair, (response_1, response_2) = shown.pair, shown.responses
    critique = parse(after_thought(answer["text"], answer["truncated"]))
    scores = answer.get("scores")
    verdict = critique.verdict if scores is None else _verdict_of(*scores)
    problems = [] if scores else _problems(answer, critique)
    proxy_verdict = proxy_verdict_of(proxy) if proxy else None
    return {
        "id": pair.id,
        "copy": shown.copy,
        "order": shown.order,
        "sample": shown.sample,
        "source": pair.source,
        "category": pair.category,
        "group": pair.group,
        "label": shown.label,
        "verdict": verdict,
        "correct": verdict == shown.label if verdict in (1, 2) else None,
        "well_formed": critique.well_formed,
        "names_winner": Problem.NAMES_WINNER in critique.problems,
        "problems": problems,
        "refused": answer["problem"],
        "truncated": answer["truncated"],
        "tokens": answer["tokens"],
        "seed": answer.get("seed"),
        "seconds": answer.get("seconds"),
        "prompt_hash": answer.get("prompt_hash"),
        "scores": scores,
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
        "image_released": pair.released or None,
        "image_missing": any(not path.is_file() for path in pair.images),
    }


def proxy_verdict_of(answer: dict[str, Any]) -> Label | None:
    """The verdict of a raw answer to the proxy's instruction."""
    return parse_proxy_verdict(after_thought(answer["text"], answer["truncated"]))


def _problems(answer: dict[str, Any], critique: Critique) -> list[str]:
    cause = answer.get("cause")
    if answer["problem"]:
        return [cause or "prompt_refused"]
    return [*([cause] if cause else []), *(problem.value for problem in critique.problems)]


def _verdict_of(first: float, second: float) -> Any:
    return "tie" if first == second else 1 if first > second else 2
