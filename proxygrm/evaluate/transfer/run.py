"""Rubric transfer from the rubrics to the matrix: judges asked, resumed at the row, figures and rows written.

OUT/raw/JUDGE.jsonl          answers of a judge as they come; an interrupted run goes on from here
OUT/raw/rubrics-NAME.jsonl   critiques made here, when rubrics were asked of a checkpoint
OUT/rubrics/NAME.jsonl       the same as judgement rows
OUT/JUDGE.jsonl              one row for each sight, reward model and condition
OUT/transfer.json            the figures
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judge import judge_pairs
from proxygrm.evaluate.judges.base import CheckpointJudge, Judge, Progress, answered
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, load_pairs, with_images
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.rows.shown import Shown, proxy_verdict_of, shown_in_orders
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.transfer.conditions import (
    BASE,
    Asked,
    Source,
    Told,
    conditions,
    read_source,
    same_sights,
    source_of,
    told_prompt,
)
from proxygrm.evaluate.transfer.figures import Figures, cell, corrected

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RESERVED = ("transfer",)


@dataclass(frozen=True)
class Transfer:
    """rubrics: by reward model, a file of judgement rows or a checkpoint that writes them on the spot. base: the same
    for the model before training. judges: by name; notes: what a reader of the table must know of a judge, by name.
    pairs: what must have been judged; needed when no rubrics come from a file."""

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


def transfer(asked: Transfer, progress: Progress = lambda done, total, note: None) -> Figures:
    """Ask every judge about every reward model's rubrics; write rows and figures, and return these.

    UserError for what does not fit, before any model is loaded, but for sights that a checkpoint's rubrics lack.
    """
    _check_names(asked)
    judges = {name: _judge(who, asked.settings) for name, who in asked.judges.items()}
    sources, base, expected = _sources(asked, progress)
    held = [*sources, *([base] if base else []), *([expected] if expected else [])]
    shared = same_sights(held, asked.common)
    kept = {id(pair) for pair in with_images([s.pair for s in shared], asked.settings.missing_images)}
    sights = [s for s in shared if id(s.pair) in kept]
    check_pairs([s.pair for s in sights], asked.settings.missing_images)
    plan = {s.name: conditions(sights, s, base, asked.seed, asked.allow_leaks) for s in sources}
    told = list(_in_order(sights, plan))
    cells, identities = [], {}
    for name, judge in judges.items():
        answers = answered(judge, told, asked.out / "raw" / f"{name}.jsonl", progress)
        cells += [cell(grm, name, sights, of, answers) for grm, of in plan.items()]
        identities[name] = {"is": judge.name, "note": (asked.notes or {}).get(name, ""), "made_by": judge.made_by}
        write_rows(asked.out / f"{name}.jsonl", _rows(sights, plan, answers))
    corrected(cells)
    figures = {
        "pairs": len({(s.pair.id, s.copy) for s in sights}),
        "sights": len(sights),
        "sights_not_shared": sum(len(source.sights) for source in held) - len(shared) * len(held),
        "without_images": len(shared) - len(sights),
        "orders": len({s.order for s in sights}),
        "judgements_by_judge": len(told),
        "images_missing": sum(any(not path.is_file() for path in s.pair.images) for s in sights),
        "seed": asked.seed,
        "allow_leaks": asked.allow_leaks,
        "judges": identities,
        "rubrics": {s.name: {"from": str(asked.rubrics[s.name]), **s.counts()} for s in sources},
        "base": {"from": str(asked.base), **base.counts()} if base else None,
        "cells": cells,
    }
    write_json(asked.out / "transfer.json", figures)
    return figures


def _check_names(asked: Transfer) -> None:
    if not asked.rubrics or not asked.judges:
        raise UserError("rubric transfer needs rubrics and a judge: --rubrics NAME=FILE --judge NAME=PATH")
    for name in [*asked.rubrics, *asked.judges]:
        if not _NAME.fullmatch(name) or (name in asked.judges and name in _RESERVED):
            raise UserError(f"{name!r} cannot be a name here: letters, digits, dots, dashes and underscores only")
    if BASE in asked.rubrics and asked.base:
        raise UserError(f"{BASE!r} is the name of the model before training; call the rubrics something else")


def _judge(who: Endpoint | Path, settings: EvaluateSettings) -> Judge:
    """Greedy, both prompts remembered, so that a file begun with other instructions is not gone on with."""
    settings = replace(settings, max_tokens=settings.proxy_max_tokens)
    judge: CheckpointJudge | EndpointJudge
    if isinstance(who, Endpoint):
        judge = EndpointJudge(who, settings, told_prompt)
    else:
        judge = CheckpointJudge(who, settings, told_prompt)
    judge.made_by |= {"prompt": prompt_hash("proxy"), "prompt_bare": prompt_hash("proxy_bare")}
    return judge


def _sources(asked: Transfer, progress: Progress) -> tuple[list[Source], Source | None, Source | None]:
    """(rubrics, those of the base, the sights that --pairs should give). Files are read before models are loaded."""
    wanted = dict(asked.rubrics) | ({BASE: asked.base} if asked.base else {})
    read = {name: read_source(name, path) for name, path in wanted.items() if not _is_checkpoint(path)}
    _check_rubrics(asked, read)
    expected = None
    if asked.pairs:
        pairs = load_pairs(asked.pairs)
        pairs = pairs[: asked.settings.max_pairs] if asked.settings.max_pairs else pairs
        sights = shown_in_orders(pairs, asked.settings.orders, 1, asked.settings.seed)
        expected = Source("--pairs", {s.key: s for s in sights}, {})
    elif read:
        pairs = _pairs_of(next(iter(read.values())))
    else:
        raise UserError("rubrics of checkpoints alone need the pairs to write them for: give --pairs PATH")
    if expected and read:
        same_sights([*read.values(), expected], asked.common)
    for name, path in wanted.items():
        if name not in read:
            read[name] = _written(name, path, pairs, asked, progress)
            _check_rubrics(asked, {name: read[name]})
    return [read[name] for name in asked.rubrics], read.get(BASE) if asked.base else None, expected


def _check_rubrics(asked: Transfer, read: Mapping[str, Source]) -> None:
    """Of reward models. The model before training may have written none: that is told of it in the figures."""
    for name in (name for name in read if name in asked.rubrics):
        rubrics = read[name].rubrics.values()
        if any(rubric.sent(asked.allow_leaks) for rubric in rubrics):
            continue
        leaks = sum(rubric.leaks for rubric in rubrics)
        why = (
            f"{leaks:,} name the winner, see --allow-leaks"
            if leaks
            else "a judge that writes none gives nothing to show"
        )
        raise UserError(
            f"{name}: none of its {len(rubrics):,} judgements has a rubric that can be sent ({why}); leave it out"
        )


def _is_checkpoint(path: Path) -> bool:
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(f"{path} is neither a file of judgement rows nor a checkpoint (a folder with config.json)")
    return path.is_dir()


def _pairs_of(source: Source) -> list[EvalPair]:
    return list({(s.pair.id, s.copy): s.pair for s in source.sights.values()}.values())


def _written(name: str, model: Path, pairs: Sequence[EvalPair], asked: Transfer, progress: Progress) -> Source:
    rows = judge_pairs(model, pairs, asked.settings, asked.out / "raw" / f"rubrics-{name}.jsonl", progress)
    file = asked.out / "rubrics" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_rows(file, rows)
    return source_of(name, list(enumerate(rows, 1)), str(file))


def _in_order(sights: Sequence[Shown], plan: Mapping[str, Mapping[str, Asked]]) -> Iterator[Told]:
    """Each question once; those about one sight stand together, since they share all that comes before the rubric."""
    seen: set[str] = set()
    for at in range(len(sights)):
        for of in plan.values():
            for condition in of.values():
                told = condition.told[at]
                if told is not None and told.key not in seen:
                    seen.add(told.key)
                    yield told


def _rows(
    sights: Sequence[Shown], plan: Mapping[str, Mapping[str, Asked]], answers: Mapping[str, Row]
) -> Iterator[dict[str, Any]]:
    for at, s in enumerate(sights):
        for grm, of in plan.items():
            for name, condition in of.items():
                told = condition.told[at]
                answer = answers[told.key] if told else None
                verdict = proxy_verdict_of(answer) if answer else None
                yield {
                    "id": s.pair.id,
                    "copy": s.copy,
                    "order": s.order,
                    "category": s.pair.category,
                    "rubrics": grm,
                    "condition": name,
                    "label": s.label,
                    "asked": told is not None,
                    "verdict": verdict,
                    "correct": None if verdict is None else verdict == s.label,
                    "refused": answer["problem"] if answer else None,
                    "answer": answer["text"] if answer else None,
                    "rubric": told.rubric if told else None,
                    "key": told.key if told else None,
                }
