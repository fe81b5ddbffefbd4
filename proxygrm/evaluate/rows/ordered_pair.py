"""A pair in one of its two orders, which is one judgement to make, and the row that the judgement becomes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from proxygrm.core.labels import Label
from proxygrm.critique import think_answer
from proxygrm.critique.contract import Problem, parse, parse_proxy_verdict, rubric_for_proxy
from proxygrm.critique.contracts import PROXY_GRM, R1
from proxygrm.critique.thought import after_thought
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.rows.scored_texts import read_scores
from proxygrm.evaluate.settings import BOTH, DRAWN, HASHED, POINTWISE, R1_TIES

AS_IS, SWAPPED = "as_is", "swapped"


@dataclass(frozen=True)
class OrderedPair:
    """A pair as a judge sees it. `copy` counts earlier pairs with the same id, since benchmarks repeat ids; `sample`
    counts the votes of one judge on the same pair and order."""

    pair: EvalPair
    order: str
    copy: int = 0
    sample: int = 0

    @cached_property
    def key(self) -> str:
        """Identifies the judgement in the files that an interrupted run resumes from. Depends on everything the judge
        sees, and on which images are missing."""
        images = [path.name if path.is_file() else f"no {path.name}" for path in self.pair.images]
        content = [self.pair.question, *self.responses, *images]
        digest = hashlib.sha256("\0".join(content).encode(errors="backslashreplace")).hexdigest()[:12]
        return f"{self.pair.id}#{self.copy}/{self.order}/{digest}" + (f"/{self.sample}" if self.sample else "")

    @property
    def responses(self) -> tuple[str, str]:
        """Response 1 and response 2 in this order."""
        both = (self.pair.response_1, self.pair.response_2)
        return both if self.order == AS_IS else both[::-1]

    @property
    def label(self) -> int:
        """The better response in this order: 1 or 2."""
        return self.pair.label if self.order == AS_IS else 3 - self.pair.label


def ordered_pairs(pairs: Sequence[EvalPair], orders: str = BOTH, votes: int = 1, seed: int = 0) -> list[OrderedPair]:
    """The judgements to make, in the order of the pairs; `orders` is one of `settings.ORDERS`.

    Those of one pair are adjacent: they share image, instruction and question (prefix cache).
    """
    copies: Counter[str] = Counter()
    judgements = []
    for pair in pairs:
        for sample in range(votes):
            in_orders = (AS_IS, SWAPPED) if orders == BOTH else (AS_IS,)
            if orders in (DRAWN, HASHED):
                in_orders = (drawn_order(pair, seed, sample),)
            judgements += [OrderedPair(pair, order, copies[pair.id], sample) for order in in_orders]
        copies[pair.id] += 1
    return judgements


def drawn_order(pair: EvalPair, seed: int, sample: int = 0) -> str:
    """A pseudo-random order that depends on the seed, the vote and the pair's content alone: not on the row's position
    in the file, nor on which response the file lists first."""
    better, worse = (pair.response_1, pair.response_2)[:: 1 if pair.label == 1 else -1]
    content = [str(seed), str(sample), pair.question, better, worse, *(path.name for path in pair.images)]
    better_first = hashlib.sha256("\0".join(content).encode(errors="backslashreplace")).digest()[0] % 2 == 0
    return AS_IS if better_first == (pair.label == 1) else SWAPPED


def judged_row(
    ordered: OrderedPair,
    answer: dict[str, Any],
    proxy_answer: dict[str, Any] | None = None,
    contract: str = PROXY_GRM,
) -> dict[str, Any]:
    """One line of `TAG.jsonl` or `answers.jsonl`.

    `answer` and `proxy_answer` are {text, tokens, truncated, problem}; more fields of `answer` are optional.
    `proxy_answer` is None when the proxy was not asked. The `cause` of an answer without text (`chat.answer`) is the
    first of the `problems`. A scalar judge's answer has `scores` of response 1 and 2 in this order, from which the
    verdict follows ("tie" when they are equal); so do the `texts` of a critic that was asked for scores. contract: what
    the judge was asked for. `correct` and `proxy_agrees` are None without a verdict.
    """
    pair, (response_1, response_2) = ordered.pair, ordered.responses
    read = _READERS[contract](answer)
    scores = answer.get("scores") or read.get("scores")
    verdict = read["verdict"] if scores is None else verdict_of(*scores)
    problems = [] if answer.get("scores") else _problems(answer, read["problems"])
    return {
        "id": pair.id,
        "copy": ordered.copy,
        "order": ordered.order,
        "sample": ordered.sample,
        "source": pair.source,
        "category": pair.category,
        "group": pair.group,
        "label": ordered.label,
        "verdict": verdict,
        "correct": verdict == ordered.label if verdict in (1, 2) else None,
        "well_formed": read["well_formed"],
        "names_winner": Problem.NAMES_WINNER.value in read["problems"],
        "problems": problems,
        "refused": answer["problem"],
        "truncated": answer["truncated"],
        "tokens": answer["tokens"],
        "seed": answer.get("seed"),
        "seconds": answer.get("seconds"),
        "prompt_hash": answer.get("prompt_hash"),
        "scores": scores,
        "score_samples": read.get("score_samples"),
        **proxy_fields(proxy_answer, ordered.label),
        "critique": read.get("text", answer["text"]),
        "rubric": read["rubric"],
        "items": read["items"],
        "evaluation": read["evaluation"],
        "question": pair.question,
        "response_1": response_1,
        "response_2": response_2,
        "image": str(pair.images[0]) if pair.images else None,
        "images": [str(path) for path in pair.images],
        "image_released": pair.released or None,
        "image_missing": any(not path.is_file() for path in pair.images),
    }


def _read_critique(answer: dict[str, Any]) -> dict[str, Any]:
    critique = parse(after_thought(answer["text"], answer["truncated"]))
    return {
        "verdict": critique.verdict,
        "well_formed": critique.well_formed,
        "problems": [problem.value for problem in critique.problems],
        "rubric": rubric_for_proxy(answer["text"]),
        "items": [{"text": item.description, "weight": item.weight} for item in critique.items],
        "evaluation": critique.evaluation,
    }


def _read_judgement(answer: dict[str, Any], ties: bool = False) -> dict[str, Any]:
    judgement = think_answer.parse(answer["text"], ties)
    return {
        "verdict": "tie" if judgement.tie else judgement.verdict,
        "well_formed": judgement.well_formed,
        "problems": [judgement.problem] if judgement.problem else [],
        "rubric": None,
        "items": [],
        "evaluation": judgement.reasoning,
    }


def _read_scores(answer: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": None, "rubric": None, "items": [], "evaluation": None, **read_scores(answer.get("texts", ()))}


_READERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    PROXY_GRM: _read_critique,
    R1: _read_judgement,
    R1_TIES: partial(_read_judgement, ties=True),
    POINTWISE: _read_scores,
}


def proxy_fields(answer: dict[str, Any] | None, label: int) -> dict[str, Any]:
    """The fields of a judgement row about the proxy; `answer` is None when it was not asked."""
    verdict = proxy_verdict_of(answer) if answer else None
    return {
        "proxy_asked": answer is not None,
        "proxy_verdict": verdict,
        "proxy_agrees": None if verdict is None else verdict == label,
        "proxy_answer": answer["text"] if answer else None,
        "proxy_refused": answer["problem"] if answer else None,
    }


def proxy_verdict_of(answer: dict[str, Any]) -> Label | None:
    """The verdict of a raw answer to the proxy's instruction."""
    return parse_proxy_verdict(after_thought(answer["text"], answer["truncated"]))


def _problems(answer: dict[str, Any], problems: list[str]) -> list[str]:
    cause = answer.get("cause")
    if answer["problem"]:
        return [cause or "prompt_refused"]
    return [*([cause] if cause else []), *problems]


def verdict_of(score_1: float, score_2: float) -> Any:
    return "tie" if score_1 == score_2 else 1 if score_1 > score_2 else 2
