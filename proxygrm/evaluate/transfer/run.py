"""Rubric transfer from the rubrics to the matrix: run the judges, resumable at the row, and write rows and figures.

OUT/raw/JUDGE.jsonl          answers of a judge as they arrive; an interrupted run resumes from here
OUT/raw/rubrics-NAME.jsonl   critiques written here, when rubrics come from a checkpoint
OUT/rubrics/NAME.jsonl       the same as judgement rows
OUT/JUDGE.jsonl              one row per ordered pair, reward model and condition
OUT/transfer.json            the figures
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.evaluate.judges.base import CheckpointJudge, Progress
from proxygrm.evaluate.judges.by_rubric import PairWithRubric, rubric_judge
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.judges.loaded import one_engine
from proxygrm.evaluate.judging import collect_answers, no_progress, prepare
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.rows.ordered_pair import OrderedPair, ordered_pairs, proxy_verdict_of
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, load_pairs, with_images
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.transfer.conditions import BASE, Condition, conditions
from proxygrm.evaluate.transfer.figures import Figures, add_corrected_p, cell_figures
from proxygrm.evaluate.transfer.rubrics import Rubrics, read_rubrics, rubrics_of, shared_pairs

_RESERVED = ("transfer",)


@dataclass(frozen=True)
class Transfer:
    """rubrics: by reward model, a file of judgement rows, or a checkpoint that writes them now. base: the same for the
    model before training. judges: by name; notes: what a reader of the table must know about a judge, by name. pairs:
    those that must have been judged; required when no rubrics come from a file."""

    rubrics: Mapping[str, Path]
    judges: Mapping[str, Endpoint | Path]
    out: Path
    settings: EvaluateSettings
    base: Path | None = None
    pairs: Path | None = None
    notes: Mapping[str, str] | None = None
    seed: int = 0
    allow_leaks: bool = False
    common: bool = False


@one_engine()
def measure_transfer(request: Transfer, progress: Progress = no_progress) -> Figures:
    """Let every judge judge by every reward model's rubrics; write rows and figures, and return the latter.

    UserError for invalid input, before any model is loaded, except for pairs that a checkpoint's rubrics lack.
    """
    _check_names(request)
    judges = {name: rubric_judge(source, request.settings) for name, source in request.judges.items()}
    sources, base, expected = _sources(request, progress)
    all_sources = [*sources, *([base] if base else []), *([expected] if expected else [])]
    shared = shared_pairs(all_sources, request.common)
    kept = {id(pair) for pair in with_images([o.pair for o in shared], request.settings.missing_images)}
    ordered = [o for o in shared if id(o.pair) in kept]
    check_pairs([o.pair for o in ordered], request.settings.missing_images)
    plan = {s.name: conditions(ordered, s, base, request.seed, request.allow_leaks) for s in sources}
    distinct = list(_distinct_requests(len(ordered), plan))
    cells, judge_facts = [], {}
    for name, judge in judges.items():
        answers = collect_answers(judge, distinct, request.out / "raw" / f"{name}.jsonl", progress)
        cells += [cell_figures(grm, name, ordered, by_condition, answers) for grm, by_condition in plan.items()]
        judge_facts[name] = {"is": judge.name, "note": (request.notes or {}).get(name, ""), "made_by": judge.made_by}
        write_rows(request.out / f"{name}.jsonl", _rows(ordered, plan, answers))
    add_corrected_p(cells)
    figures = {
        "pairs": len({(o.pair.id, o.copy) for o in ordered}),
        "sights": len(ordered),
        "sights_not_shared": sum(len(source.ordered) for source in all_sources) - len(shared) * len(all_sources),
        "without_images": len(shared) - len(ordered),
        "orders": len({o.order for o in ordered}),
        "judgements_by_judge": len(distinct),
        "images_missing": sum(any(not path.is_file() for path in o.pair.images) for o in ordered),
        "seed": request.seed,
        "allow_leaks": request.allow_leaks,
        "judges": judge_facts,
        "rubrics": {s.name: {"from": str(request.rubrics[s.name]), **s.counts()} for s in sources},
        "base": {"from": str(request.base), **base.counts()} if base else None,
        "cells": cells,
    }
    write_json(request.out / "transfer.json", figures)
    return figures


def _check_names(request: Transfer) -> None:
    if not request.rubrics or not request.judges:
        raise UserError(
            "rubric transfer needs rubrics and a judge: --rubrics NAME=FILE --judge NAME=PATH",
            code="eval.nothing-to-transfer",
        )
    for name in request.rubrics:
        check_file_name(name)
    for name in request.judges:
        check_file_name(name, _RESERVED)
    if BASE in request.rubrics and request.base:
        raise UserError(
            f"{BASE!r} is the name of the model before training; choose another name for the rubrics",
            code="eval.bad-name",
            name=BASE,
        )


def _sources(request: Transfer, progress: Progress) -> tuple[list[Rubrics], Rubrics | None, Rubrics | None]:
    """(rubrics, those of the base, the ordered pairs of --pairs). Files are read before models are loaded."""
    paths = dict(request.rubrics) | ({BASE: request.base} if request.base else {})
    sources = {name: read_rubrics(name, path) for name, path in paths.items() if not _is_checkpoint(path)}
    _check_rubrics(request, sources)
    expected = None
    if request.pairs:
        pairs = load_pairs(request.pairs)
        pairs = pairs[: request.settings.max_pairs] if request.settings.max_pairs else pairs
        ordered = ordered_pairs(pairs, request.settings.orders, 1, request.settings.seed)
        expected = Rubrics("--pairs", {o.key: o for o in ordered}, {})
    elif sources:
        pairs = _pairs_of(next(iter(sources.values())))
    else:
        raise UserError(
            "rubrics from checkpoints alone need the pairs to write them for: pass --pairs PATH",
            code="eval.needs-pairs",
        )
    if expected and sources:
        shared_pairs([*sources.values(), expected], request.common)
    for name, path in paths.items():
        if name not in sources:
            sources[name] = _written_by(name, path, pairs, request, progress)
            _check_rubrics(request, {name: sources[name]})
    return [sources[name] for name in request.rubrics], sources.get(BASE) if request.base else None, expected


def _check_rubrics(request: Transfer, sources: Mapping[str, Rubrics]) -> None:
    """UserError for a reward model without a rubric to send. The model before training may have written none: the
    figures say so."""
    for name in (name for name in sources if name in request.rubrics):
        rubrics = sources[name].rubrics.values()
        if any(rubric.sendable(request.allow_leaks) for rubric in rubrics):
            continue
        leaks = sum(rubric.leaks for rubric in rubrics)
        reason = f"{leaks:,} name the winner, see --allow-leaks" if leaks else "no critique has a closed rubric"
        raise UserError(
            f"{name}: none of its {len(rubrics):,} judgements has a rubric that can be sent ({reason}); leave it out",
            code="eval.no-rubrics",
            name=name,
            count=len(rubrics),
            leaks=leaks,
        )


def _is_checkpoint(path: Path) -> bool:
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(
            f"{path} is neither a file of judgement rows nor a checkpoint (a folder with config.json)",
            code="eval.not-rubrics",
            path=path,
        )
    return path.is_dir()


def _pairs_of(source: Rubrics) -> list[EvalPair]:
    return list({(o.pair.id, o.copy): o.pair for o in source.ordered.values()}.values())


def _written_by(name: str, model: Path, pairs: Sequence[EvalPair], request: Transfer, progress: Progress) -> Rubrics:
    judging = prepare(CheckpointJudge(model, request.settings), pairs, request.settings)
    rows = judging.rows(request.out / "raw" / f"rubrics-{name}.jsonl", progress)
    file = request.out / "rubrics" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_rows(file, rows)
    return rubrics_of(name, list(enumerate(rows, 1)), file)


def _distinct_requests(count: int, plan: Mapping[str, Mapping[str, Condition]]) -> Iterator[PairWithRubric]:
    """Each request once; those of one ordered pair are adjacent, since they share everything before the rubric."""
    seen: set[str] = set()
    for index in range(count):
        for by_condition in plan.values():
            for condition in by_condition.values():
                request = condition.requests[index]
                if request is not None and request.key not in seen:
                    seen.add(request.key)
                    yield request


def _rows(
    ordered: Sequence[OrderedPair], plan: Mapping[str, Mapping[str, Condition]], answers: Mapping[str, Row]
) -> Iterator[dict[str, Any]]:
    for index, o in enumerate(ordered):
        for grm, by_condition in plan.items():
            for name, condition in by_condition.items():
                request = condition.requests[index]
                answer = answers[request.key] if request else None
                verdict = proxy_verdict_of(answer) if answer else None
                yield {
                    "id": o.pair.id,
                    "copy": o.copy,
                    "order": o.order,
                    "category": o.pair.category,
                    "rubrics": grm,
                    "condition": name,
                    "label": o.label,
                    "asked": request is not None,
                    "verdict": verdict,
                    "correct": None if verdict is None else verdict == o.label,
                    "refused": answer["problem"] if answer else None,
                    "answer": answer["text"] if answer else None,
                    "rubric": request.rubric if request else None,
                    "key": request.key if request else None,
                }
