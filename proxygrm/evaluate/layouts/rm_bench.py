"""RM-Bench's own results (THU-KEG/RM-Bench: scripts/run_rm.py): the benchmark's JSON array with six scores a row.

A row: id, domain, prompt, chosen, rejected, score_chosen[3], score_rejected[3], in the order of the styles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.benchmarks import Benchmark, Facts
from proxygrm.evaluate.benchmarks.rm_bench import PARTS, STYLES, pair_id, styles_of
from proxygrm.evaluate.layouts.base import Document, Layout, Reading, Row, Unusable
from proxygrm.evaluate.layouts.known_pairs import KnownPairs
from proxygrm.evaluate.rows.answers import RIGHT, TIE, WRONG, Judgement, bare_id

_SIDES = ("score_chosen", "score_rejected")


def recognises(document: Document) -> bool:
    return bool(document.rows) and document.has(*_SIDES)


def read(document: Document, bench: Benchmark, file: int, known: KnownPairs) -> Reading:
    reading = Reading()
    for number, row in document.numbered:
        try:
            reading.judgements += _judgements(row, number, file)
        except Unusable as reason:
            reading.refuse(number, row, str(reason))
    reading.note_repeated_ids()
    return reading


def _judgements(row: Any, number: int, file: int) -> list[Judgement]:
    """The nine comparisons of a prompt."""
    if not isinstance(row, dict):
        raise Unusable("the element is not an object")
    part = row.get("domain")
    if not isinstance(part, str) or part not in PARTS:
        raise Unusable(f"`domain` is none of {', '.join(PARTS)}")
    try:
        prompt = id_text(row["id"]) if has_id(row.get("id")) else ""
    except BadId as error:
        raise Unusable(str(error)) from None
    if not prompt:
        raise Unusable("no id")
    chosen, rejected = (_scores(row.get(side), side) for side in _SIDES)
    judgements = []
    for i, j in product(range(len(STYLES)), repeat=2):
        outcome = TIE if chosen[i] == rejected[j] else RIGHT if chosen[i] > rejected[j] else WRONG
        facts = Facts(pair_id(part, prompt, i, j), part, "", "")
        group = facts.id.rpartition("/")[0]
        judgements.append(
            Judgement(number, file, (facts.id, 0), facts, group, "", None, 0, outcome, 0, outcome == RIGHT)
        )
    return judgements


def _scores(value: Any, side: str) -> list[float]:
    scores = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in value] if isinstance(value, list) else []
    if len(scores) != len(STYLES) or any(type(s) not in (int, float) or s - s != 0 for s in scores):
        raise Unusable(f"`{side}` is not three finite numbers")
    return scores


def write(path: Path, rows: Sequence[Row]) -> None:
    """UserError for a judge without scores, and for prompts of which a comparison is missing."""
    prompts: dict[str, Row] = {}
    sizes: dict[str, int] = {}
    for row in rows:
        id_, better, scores = bare_id(row["id"], row.get("source") or ""), row["label"] - 1, row.get("scores")
        styles = styles_of(id_)
        if styles is None or not scores:
            raise UserError(
                f"RM-Bench's results are scores of single responses, and {id_} has none; only a scalar judge's answers "
                "can be written so",
                code="eval.export-needs-scores",
                id=id_,
            )
        prompt = id_.rpartition("/")[0]
        part, _, released = prompt.partition("/")
        number = int(released) if released.isdecimal() and str(int(released)) == released else released
        made = prompts.setdefault(prompt, {
            "id": number, "domain": part, "prompt": row["question"],
            **{name: [None] * len(STYLES) for name in ("chosen", "rejected", *_SIDES)},
        })  # fmt: skip
        responses = row["response_1"], row["response_2"]
        for side, style, at in (("chosen", styles[0], better), ("rejected", styles[1], 1 - better)):
            made[side][style], made[f"score_{side}"][style] = responses[at], scores[at]
        sizes[prompt] = sizes.get(prompt, 0) + 1
    incomplete = [prompt for prompt, size in sizes.items() if size != len(STYLES) ** 2]
    if incomplete:
        raise UserError(
            f"{len(incomplete):,} prompts lack some of their nine comparisons, {incomplete[0]} first; judge them",
            code="eval.export-incomplete",
            prompts=incomplete,
        )
    path.write_text(json.dumps(list(prompts.values()), indent=4, ensure_ascii=False), encoding="utf-8")


LAYOUT = Layout(
    "rm-bench",
    "RM-Bench's results",
    "rm-bench",
    "certain: fields, from its script",
    recognises,
    read,
    write,
    lambda row: row.get("order") == "as_is",
)
