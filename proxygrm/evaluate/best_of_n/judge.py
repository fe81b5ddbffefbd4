"""The judgements that best-of-N ranks by: every two candidates of a prompt, or each against a reference, both orders.

Candidates as `best_of_n` reads them, with the `question` (or `prompt`) they answer and its `image` or `images`, which
are looked for beside the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.critique.contract import parse
from proxygrm.evaluate.best_of_n.ranking import object_rows, prompt_id, read_prompts
from proxygrm.evaluate.judges.base import Judge, Progress, answered
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, image_files, image_names, with_images
from proxygrm.evaluate.rows.row_file import write_rows
from proxygrm.evaluate.rows.shown import AS_IS, Shown
from proxygrm.serving.chat_answer import after_thought

Place = int | str
"""Of a candidate, from 0, or "reference"."""


@dataclass(frozen=True)
class Match:
    """Two candidates of one prompt; `pair` has them as responses 1 and 2. Its label says nothing: nobody knows it."""

    first: Place
    second: Place
    pair: EvalPair

    @property
    def same(self) -> bool:
        return self.pair.response_1 == self.pair.response_2


def matches(path: Path, against_reference: bool = False) -> list[Match]:
    """All matches, those of a prompt together. Raises UserError, with the row, for a prompt without question, text or
    reference, besides what `read_prompts` refuses."""
    read_prompts(path)
    return [match for number, row in object_rows(path) for match in _of_prompt(row, path, number, against_reference)]


def _of_prompt(row: dict[str, Any], path: Path, number: int, against_reference: bool) -> Iterator[Match]:
    question = row.get("question", row.get("prompt"))
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{path} row {number} has no `question`; a judge must know what the candidates answer")
    texts: dict[Place, Any] = {
        at: c.get("response") if isinstance(c, dict) else c for at, c in enumerate(row["candidates"])
    }
    if against_reference:
        texts["reference"] = row.get("reference")
    if wrong := [at for at, text in texts.items() if not isinstance(text, str)]:
        raise UserError(f"{path} row {number}: candidate {wrong[0]} is no text" if wrong[0] != "reference" else
                        f"{path} row {number} has no text as `reference`; leave --reference out")  # fmt: skip
    try:
        images = image_names(row)
    except ValueError as error:
        raise UserError(f"{path} row {number}: `images` is not a list of paths ({error})") from error
    id_ = prompt_id(row, path, number) or ""  # `read_prompts` has seen to it
    places = [at for at in texts if at != "reference"]
    chosen = [(at, "reference") for at in places] if against_reference else list(combinations(places, 2))
    for first, second in chosen:
        pair = EvalPair(id_, question, texts[first], texts[second], 1, image_files(images, path.parent))
        yield Match(first, second, pair)


def judge_candidates(
    judge: Judge,
    candidates: Path,
    out: Path,
    against_reference: bool,
    missing_images: str,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, int]:
    """Write `out`, one row a judgement as `best_of_n` reads them; counts of what it holds.

    OUT.raw takes the answers as they come, and an interrupted run goes on from it. Candidates that read alike are a tie
    without asking. UserError when `out` was not made here, so that nobody's judgements are overwritten.
    """
    raw = out.with_name(out.name + ".raw")
    if out.exists() and not raw.exists():
        raise UserError(f"{out} exists and was not written by a judge here; leave --judge out, or name another file")
    found = matches(candidates, against_reference)
    played = [match for match in found if not match.same]
    fit = {id(pair) for pair in with_images([match.pair for match in played], missing_images)}
    blind = {s.key for match in played if id(match.pair) not in fit for s in _sights(match)}
    if fit:
        check_pairs([match.pair for match in played if id(match.pair) in fit], missing_images)
    shown = {s.key: s for match in played for s in _sights(match) if s.key not in blind}
    answers = answered(judge, list(shown.values()), raw, progress) if shown else {}
    answers |= {key: {"text": "", "problem": "not asked: an image is missing"} for key in blind}
    rows = [row for match in found for row in _rows(match, answers)]
    write_rows(out, rows)
    return {
        "judgements": len(rows),
        "asked": len(shown),
        "same_text": sum(row["same_text"] for row in rows),
        "unparsed": sum(row["verdict"] is None for row in rows),
        "refused": sum(row["refused"] is not None for row in rows),
    }


def _sights(match: Match) -> Sequence[Shown]:
    """Both orders, each as a pair of its own, so that candidates that read alike are judged once for all."""
    pair = match.pair
    turned = replace(pair, response_1=pair.response_2, response_2=pair.response_1)
    return Shown(pair, AS_IS), Shown(turned, AS_IS)


def _verdict(answer: dict[str, Any]) -> int | None:
    return parse(after_thought(answer["text"], answer["truncated"])).verdict


def _rows(match: Match, answers: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for s, (first, second) in zip(
        _sights(match), ((match.first, match.second), (match.second, match.first)), strict=True
    ):
        answer = None if match.same else answers[s.key]
        refused = answer["problem"] if answer else None
        verdict = "tie" if answer is None else None if refused else _verdict(answer)
        yield {
            "id": match.pair.id,
            "first": first,
            "second": second,
            "verdict": verdict,
            "same_text": match.same,
            "refused": refused,
            "critique": answer["text"] if answer else None,
        }
