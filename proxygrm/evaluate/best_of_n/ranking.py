"""Ranking N candidate answers to a prompt by pairwise judgements, and how good the chosen ones are.

Candidates, one prompt per line: {id, candidates: [...]}; a candidate is a text, or {response, correct}; correctness may
also be a separate list `correct` (true, false or null). A `reference` text is optional.
Judgements, one per line: {id, first, second, verdict}: indices of the candidates shown first and second (from 0, or
"reference"), and the verdict 1, 2, "tie" or null.

A candidate's score is its share of wins over its opponents: each opponent counts once, with the mean over both orders
and all samples; a tie or an unparsed verdict is half a win. **Ties**: candidates with the same highest score share the
choice, so accuracy is their mean correctness and does not depend on the order of the candidates. The written ranking
lists tied candidates in input order with the same rank.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import object_rows
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.rows.row_file import write_rows
from proxygrm.evaluate.rows.text import ids_text, rows_text
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval

REFERENCE = -1
SUBSETS = 200


@dataclass(frozen=True)
class Prompt:
    id: str
    count: int  # of candidates
    correct: tuple[bool | None, ...]
    has_reference: bool


@dataclass(frozen=True)
class Ranked:
    prompt: Prompt
    wins: Mapping[tuple[int, int], float]  # (candidate, opponent) -> share of wins, 0 to 1
    unclear: int  # verdicts that are ties or unparsed

    def scores(self, among: Sequence[int], against_reference: bool) -> list[float | None]:
        """Of the candidates `among`, from judgements among them alone; None for a candidate without judgements."""
        scores: list[float | None] = []
        for candidate in among:
            opponents = [REFERENCE] if against_reference else [other for other in among if other != candidate]
            shares = [self.wins[candidate, other] for other in opponents if (candidate, other) in self.wins]
            scores.append(sum(shares) / len(shares) if shares else None)
        return scores


def read_prompts(path: Path) -> dict[str, Prompt]:
    """UserError, with the row number, for a row without a list of candidates, and for a repeated id."""
    prompts: dict[str, Prompt] = {}

    def invalid(row: int, reason: str) -> UserError:
        return UserError(f"{path} row {row}{reason}", code="eval.bad-candidates", path=path, row=row)

    for number, row in object_rows(path):
        candidates, row_id = row.get("candidates"), prompt_id(row, path, number)
        if row_id is None or not isinstance(candidates, list) or not candidates:
            raise invalid(number, " has no id with a list of candidates")
        values = row.get("correct", [c.get("correct") if isinstance(c, dict) else None for c in candidates])
        if not isinstance(values, list) or len(values) != len(candidates):
            raise invalid(number, f": `correct` is not one value for each of {len(candidates)} candidates")
        if any(value not in (True, False, None) for value in values):
            raise invalid(number, ": `correct` has values other than true, false and null")
        if row_id in prompts:
            raise invalid(number, f" repeats the id {row_id!r}; give each prompt one row")
        correct = tuple(None if value is None else bool(value) for value in values)
        prompts[row_id] = Prompt(row_id, len(candidates), correct, "reference" in row)
    if not prompts:
        raise UserError(f"{path} has no prompts", code="eval.no-candidates", path=path)
    return prompts


def read_wins(path: Path, prompts: Mapping[str, Prompt]) -> list[Ranked]:
    """The judgements of every prompt, in the order of the prompts. UserError for one of an unknown candidate."""
    points: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    unclear: dict[str, int] = defaultdict(int)
    foreign: list[int] = []
    for number, row in object_rows(path):
        row_id = prompt_id(row, path, number)
        if row_id is None or row_id not in prompts:
            foreign.append(number)
            continue
        prompt = prompts[row_id]
        first, second = (_position(row.get(name), prompt, path, number) for name in ("first", "second"))
        if first == second:
            raise UserError(
                f"{path} row {number} judges candidate {first} against itself",
                code="eval.bad-judgement",
                path=path,
                row=number,
            )
        verdict = row.get("verdict")
        if verdict not in (1, 2, None, "tie") or isinstance(verdict, bool):
            raise UserError(
                f"{path} row {number}: `verdict` is {verdict!r}, not 1, 2, tie or null",
                code="eval.bad-judgement",
                path=path,
                row=number,
            )
        won = 1.0 if verdict == 1 else 0.0 if verdict == 2 else 0.5
        points[row_id][first, second].append(won)
        points[row_id][second, first].append(1 - won)
        unclear[row_id] += verdict not in (1, 2)
    if foreign:
        raise UserError(
            f"{path}: no candidates for the prompts of {rows_text(foreign)}",
            code="eval.other-prompts",
            path=path,
            rows=foreign,
        )
    unjudged = [name for name in prompts if name not in points and prompts[name].count > 1]
    if unjudged:
        raise UserError(
            f"{path} has no judgement of {len(unjudged):,} of {len(prompts):,} prompts ({ids_text(unjudged)})",
            code="eval.missing-judgements",
            path=path,
            count=len(unjudged),
            total=len(prompts),
        )
    return [
        Ranked(prompt, {pair: sum(won) / len(won) for pair, won in points[name].items()}, unclear[name])
        for name, prompt in prompts.items()
    ]


def _position(value: Any, prompt: Prompt, path: Path, number: int) -> int:
    if value == "reference":
        return REFERENCE
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < prompt.count:
        return value
    raise UserError(
        f"{path} row {number} has candidate {value!r}; {ids_text([prompt.id])} has 0 to {prompt.count - 1}",
        code="eval.bad-judgement",
        path=path,
        row=number,
    )


def rank(ranked: Ranked, against_reference: bool = False) -> list[Figures]:
    """The candidates from best to worst: {candidate, score, rank, correct}; tied ones share a rank."""
    candidates = range(ranked.prompt.count)
    scores = ranked.scores(candidates, against_reference)
    order = sorted(candidates, key=lambda c: (-(scores[c] if scores[c] is not None else -1.0), c))  # type: ignore[operator]
    return [
        {
            "candidate": candidate,
            "score": scores[candidate],
            "rank": 1 + sum((other or 0) > (scores[candidate] or 0) for other in scores),
            "correct": ranked.prompt.correct[candidate],
        }
        for candidate in order
    ]


def accuracy_at(rows: Sequence[Ranked], n: int, against_reference: bool = False, seed: int = 0) -> Figures | None:
    """How often the best-ranked of n candidates is correct, over the prompts with n candidates of known correctness.

    All subsets of n candidates have equal weight (a seeded sample of 200 where there are more), so N = 1 is the mean
    correctness and the order of the candidates does not matter. `any_correct` is the ceiling: one of the n is correct.
    The interval is a bootstrap over prompts. None when no prompt can be used.
    """
    right, ceiling, used = [], [], []
    for ranked in rows:
        known = [index for index, correct in enumerate(ranked.prompt.correct) if correct is not None]
        if len(known) < n:
            continue
        best_correct, any_correct, drawn = 0.0, 0.0, 0
        for subset in subsets(known, n, f"{seed}/{ranked.prompt.id}"):
            best_correct += _correctness_of_best(ranked, subset, against_reference)
            any_correct += any(ranked.prompt.correct[index] for index in subset)
            drawn += 1
        right.append(best_correct / drawn)
        ceiling.append(any_correct / drawn)
        used.append(ranked.prompt.id)
    if not right:
        return None
    low, high = clustered_interval(right, used)
    mean = sum(right) / len(right)
    return {
        "n": n, "prompts": len(right), "accuracy": mean, "low": low, "high": high,
        "any_correct": sum(ceiling) / len(ceiling),
    }  # fmt: skip


def _correctness_of_best(ranked: Ranked, subset: Sequence[int], against_reference: bool) -> float:
    scores = [0.5 if score is None else score for score in ranked.scores(subset, against_reference)]
    highest = max(scores)
    best = [index for index, score in zip(subset, scores, strict=True) if score >= highest - 1e-12]
    return sum(bool(ranked.prompt.correct[index]) for index in best) / len(best)


def subsets(known: Sequence[int], n: int, seed: str) -> Iterator[Sequence[int]]:
    """All subsets of n, or a seeded sample of 200 where there are more."""
    if comb(len(known), n) <= SUBSETS:
        yield from combinations(known, n)
        return
    rng = random.Random(seed)
    for _ in range(SUBSETS):
        yield rng.sample(known, n)


def best_of_n(candidates: Path, judgements: Path, against_reference: bool = False, out: Path | None = None) -> Figures:
    """Rank, write the rankings to `out` (JSONL), and return accuracy@N for N = 1, 2, 4, 8, ... and all."""
    return ranking_figures(ranked_by_judgements(candidates, judgements, against_reference), against_reference, out)


def ranked_by_judgements(candidates: Path, judgements: Path, against_reference: bool = False) -> list[Ranked]:
    """Of every prompt, in the file's order. UserError as of `read_prompts` and `read_wins`, and without a judgement
    against the reference where these are to count."""
    rows = read_wins(judgements, read_prompts(candidates))
    if against_reference and not any(REFERENCE in pair for ranked in rows for pair in ranked.wins):
        raise UserError(
            f"{judgements} has no judgement against the reference; leave --reference out",
            code="eval.no-reference",
            path=judgements,
        )
    return rows


def ranking_figures(
    rows: Sequence[Ranked], against_reference: bool = False, out: Path | None = None, ranked_by: str = ""
) -> Figures:
    """accuracy@N for N = 1, 2, 4, 8, ... and all; the rankings go to `out` (JSONL)."""
    if out:
        write_rows(out, ({"id": r.prompt.id, "ranking": rank(r, against_reference)} for r in rows))
    most = max(ranked.prompt.count for ranked in rows)
    sizes = sorted({*(2**k for k in range(most.bit_length()) if 2**k <= most), most})
    accuracy = [figures for n in sizes if (figures := accuracy_at(rows, n, against_reference))]
    missing = 0 if against_reference else sum(
        comb(r.prompt.count, 2) - sum(0 <= a < b for a, b in r.wins) for r in rows
    )  # fmt: skip
    return {
        "prompts": len(rows),
        "candidates": sum(ranked.prompt.count for ranked in rows),
        "ranked_by": ranked_by or ("wins against the reference" if against_reference else "round-robin wins"),
        "accuracy_at": accuracy,
        "unclear_verdicts": sum(r.unclear for r in rows),
        "pairs_not_judged": missing,
        "prompts_with_tied_best": sum(sum(c["rank"] == 1 for c in rank(r, against_reference)) > 1 for r in rows),
        "correctness_known": sum(None not in ranked.prompt.correct for ranked in rows),
    }


def prompt_id(row: dict[str, Any], path: Path, number: int) -> str | None:
    value = row.get("id", row.get("prompt_id"))
    try:
        return id_text(value) if has_id(value) else None
    except BadId as error:
        raise UserError(f"{path} row {number}: {error}", code="eval.bad-id", path=path, row=number) from None
