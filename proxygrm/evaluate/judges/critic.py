"""A critic writes about each response, and a scalar reward model then scores response and critique together, as in
MM-RLHF's critique-based reward models. Critiques are collected as judgements are: resumed at the row, in shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxygrm.critique.prompts import critique_prompt, prompt_hash
from proxygrm.evaluate.judges.base import CheckpointJudge, Judge
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.settings import EvaluateSettings


class NoCritique(Exception):
    """The critic wrote nothing about a response, and why."""


@dataclass(frozen=True)
class OneResponse(OrderedPair):
    """One of the two responses, as a critic sees it."""

    number: int = 1

    @property
    def key(self) -> str:
        return f"{super().key}/response-{self.number}"

    @property
    def prompt(self) -> str:
        """Without image tags: the images precede it."""
        return critique_prompt(self.pair.question, self.responses[self.number - 1], images=0)


@dataclass(frozen=True)
class Critiques:
    """The raw answers about response 1 and response 2."""

    rows: tuple[Row, ...]

    def both(self) -> tuple[str, ...]:
        """Without their thoughts. Raises NoCritique."""
        return tuple(_critique(row, number) for number, row in enumerate(self.rows, 1))

    @property
    def text(self) -> str:
        """For a row of answers."""
        return "\n\n".join(f"Response {number}: {text}" for number, text in enumerate(self.both(), 1))


def _critique(row: Row, number: int) -> str:
    _, closed, text = str(row["text"]).strip().rpartition("</think>")
    if not (text := text.strip()) or (not closed and text.startswith("<think>")):
        raise NoCritique(f"no critique of response {number}: {row['problem'] or row.get('cause') or 'an empty answer'}")
    return text


def one_by_one(requests: Sequence[OrderedPair]) -> list[OneResponse]:
    """What the critic is asked. The responses to one question are adjacent: they share image and question."""
    return [
        OneResponse(each.pair, each.order, each.copy, each.sample, number) for each in requests for number in (1, 2)
    ]


def by_request(requests: Sequence[OrderedPair], answers: Mapping[str, Row]) -> dict[str, Critiques]:
    """The answers to `one_by_one` by the key of the request that they are for."""
    return {each.key: Critiques(tuple(answers[one.key] for one in one_by_one([each]))) for each in requests}


def critic_judge(source: Endpoint | Path, settings: EvaluateSettings) -> Judge:
    """Raises UserError for a checkpoint that does not write: checkpoint.scalar."""
    judge = (
        EndpointJudge(source, replace(settings, max_pixels=0), _prompt)  # which scales images itself
        if isinstance(source, Endpoint)
        else CheckpointJudge(source, settings, _prompt)
    )
    judge.made_by |= {"prompt": prompt_hash("critique")}
    return judge


def _prompt(request: OrderedPair) -> str:
    assert isinstance(request, OneResponse)
    return request.prompt
