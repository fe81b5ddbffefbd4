"""The judgements that best-of-N ranks by: every two candidates of a prompt, or each against a reference, both orders.

Candidates are read by `ranking.read_prompts`, and need the `question` (or `prompt`) they answer; `image` or `images`
are paths relative to the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import object_rows
from proxygrm.critique.contract import parse
from proxygrm.critique.thought import after_thought
from proxygrm.evaluate.best_of_n.ranking import prompt_id, read_prompts
from proxygrm.evaluate.judges.base import Judge, Progress
from proxygrm.evaluate.judging import collect_answers, no_progress
from proxygrm.evaluate.rows.ordered_pair import AS_IS, OrderedPair, verdict_of
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, image_files, image_names, with_images
from proxygrm.evaluate.rows.row_file import write_rows

Position = int | str
"""Index of a candidate, from 0, or "reference"."""


@dataclass(frozen=True)
class Match:
    """Two candidates of one prompt; `pair` has them as responses 1 and 2. Its label is meaningless: it is unknown."""

    first: Position
    second: Position
    pair: EvalPair

    @property
    def same_text(self) -> bool:
        return self.pair.response_1 == self.pair.response_2


def read_matches(path: Path, against_reference: bool = False) -> list[Match]:
    """All matches, those of a prompt together. UserError, with the row, for a prompt without question, text or
    reference, and as in `read_prompts`."""
    read_prompts(path)
    return [match for number, row in object_rows(path) for match in _of_prompt(row, path, number, against_reference)]


def _of_prompt(row: dict[str, Any], path: Path, number: int, against_reference: bool) -> Iterator[Match]:
    def invalid(reason: str) -> UserError:
        return UserError(f"{path} row {number} {reason}", code="eval.bad-candidates", path=path, row=number)

    question = row.get("question", row.get("prompt"))
    if not isinstance(question, str) or not question.strip():
        raise invalid("has no `question`, which the judge needs to see")
    texts: dict[Position, Any] = {
        index: c.get("response") if isinstance(c, dict) else c for index, c in enumerate(row["candidates"])
    }
    if against_reference:
        texts["reference"] = row.get("reference")
    for position, text in texts.items():
        if not isinstance(text, str):
            raise invalid(
                "has no text as `reference`; leave --reference out"
                if position == "reference"
                else f"has a candidate without text, number {position}"
            )
    try:
        images = image_names(row)
    except ValueError as error:
        raise invalid(f"has `images` that are not a list of paths ({error})") from error
    id_ = prompt_id(row, path, number) or ""  # `read_prompts` has checked that there is one
    candidates = [position for position in texts if position != "reference"]
    if against_reference:
        positions: list[tuple[Position, Position]] = [(position, "reference") for position in candidates]
    else:
        positions = list(combinations(candidates, 2))
    for first, second in positions:
        pair = EvalPair(id_, question, texts[first], texts[second], 1, image_files(images, path.parent))
        yield Match(first, second, pair)


def judge_candidates(
    judge: Judge,
    candidates: Path,
    out: Path,
    against_reference: bool,
    missing_images: str,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Write `out`, one row per judgement as `best_of_n` reads them; returns counts of its rows.

    The answers are appended to OUT.raw as they arrive, and an interrupted run resumes from there. Candidates with the
    same text are a tie without a request. UserError when `out` exists but was not written here, so that other
    judgements are not overwritten.
    """
    raw = out.with_name(out.name + ".raw")
    if out.exists() and not raw.exists():
        raise UserError(
            f"{out} exists and was not written with --judge; leave --judge out, or choose another file",
            code="eval.foreign-judgements",
            path=out,
        )
    matches = read_matches(candidates, against_reference)
    different = [match for match in matches if not match.same_text]
    with_all_images = {id(pair) for pair in with_images([match.pair for match in different], missing_images)}
    without_images = {
        request.key for match in different if id(match.pair) not in with_all_images for request in _both_orders(match)
    }
    if with_all_images:
        check_pairs([match.pair for match in different if id(match.pair) in with_all_images], missing_images)
    requests = {
        request.key: request
        for match in different
        for request in _both_orders(match)
        if request.key not in without_images
    }
    answers = collect_answers(judge, list(requests.values()), raw, progress) if requests else {}
    answers |= {key: {"text": "", "problem": "not asked: an image is missing"} for key in without_images}
    rows = [row for match in matches for row in _rows(match, answers)]
    write_rows(out, rows)
    return {
        "judgements": len(rows),
        "asked": len(requests),
        "same_text": sum(row["same_text"] for row in rows),
        "unparsed": sum(row["verdict"] is None for row in rows),
        "refused": sum(row["refused"] is not None for row in rows),
    }


def _both_orders(match: Match) -> Sequence[OrderedPair]:
    """Each order as its own pair, so that candidates with the same text are judged once."""
    pair = match.pair
    swapped = replace(pair, response_1=pair.response_2, response_2=pair.response_1)
    return OrderedPair(pair, AS_IS), OrderedPair(swapped, AS_IS)


def _verdict(answer: dict[str, Any]) -> Any:
    """1, 2, "tie" or None; of a scalar judge by its scores."""
    if scores := answer.get("scores"):
        return verdict_of(*scores)
    return parse(after_thought(answer["text"], answer["truncated"])).verdict


def _rows(match: Match, answers: dict[str, Any]) -> Iterator[dict[str, Any]]:
    positions = (match.first, match.second), (match.second, match.first)
    for request, (first, second) in zip(_both_orders(match), positions, strict=True):
        answer = None if match.same_text else answers[request.key]
        refused = answer["problem"] if answer else None
        verdict = "tie" if answer is None else None if refused else _verdict(answer)
        yield {
            "id": match.pair.id,
            "first": first,
            "second": second,
            "verdict": verdict,
            "same_text": match.same_text,
            "refused": refused,
            "critique": answer["text"] if answer else None,
        }
