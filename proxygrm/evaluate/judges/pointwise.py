"""A critic as a judge: it scores each response without sight of the other, K times; means are compared.

The raw answer to a pair has `texts`: what the critic wrote, K texts for each of the two responses. It is written when
all of them are there, so an interrupted run resumes at the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proxygrm.critique.prompts import pointwise_prompt, prompt_hash
from proxygrm.evaluate.judges.base import Judge, text_hash
from proxygrm.evaluate.judges.critic import OneResponse
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.row_file import Row

RESPONSES = (1, 2)


def one_response_prompt(ordered: OrderedPair) -> str:
    """The instruction for a score, without image tags: the images precede it."""
    assert isinstance(ordered, OneResponse)
    return pointwise_prompt(ordered.pair.question, ordered.responses[ordered.number - 1], images=0)


class PointwiseJudge:
    """critic: a judge that is given `one_response_prompt`; scores: how many of each response."""

    def __init__(self, critic: Judge, scores: int) -> None:
        self.critic, self.scores, self.name = critic, scores, critic.name
        self.made_by: Row = critic.made_by | {"prompt": prompt_hash("pointwise"), "scores": scores}

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        parts = {
            request.key: [
                OneResponse(request.pair, request.order, request.copy, sample, response)
                for response in RESPONSES
                for sample in range(self.scores)
            ]
            for request in requests
        }
        pair_of = {part.key: key for key, of_pair in parts.items() for part in of_pair}
        answers: dict[str, dict[str, Row]] = {key: {} for key in parts}

        def collect(answer: Row) -> None:
            key = pair_of[answer["key"]]
            answers[key][answer["key"]] = answer
            if len(answers[key]) == len(parts[key]):
                of_pair = answers.pop(key)
                take(self._of_pair(key, [of_pair[part.key] for part in parts[key]]))

        self.critic.judge([part for of_pair in parts.values() for part in of_pair], collect, works)

    def _of_pair(self, key: str, answers: Sequence[Row]) -> Row:
        """answers: those of response 1, then those of response 2."""
        unusable: Any = next((answer for answer in answers if answer["problem"] or answer.get("cause")), {})
        return {
            "key": key,
            "text": "",
            "texts": [[a["text"] for a in answers[: self.scores]], [a["text"] for a in answers[self.scores :]]],
            "tokens": sum(answer["tokens"] for answer in answers),
            "truncated": any(answer["truncated"] for answer in answers),
            "problem": unusable.get("problem"),
            "cause": unusable.get("cause"),
            "seconds": max(answer["seconds"] or 0.0 for answer in answers),
            "prompt_hash": text_hash("".join(str(answer.get("prompt_hash")) for answer in answers)),
        }
