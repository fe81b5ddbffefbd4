"""VLMEvalKit, VL-RewardBench: the judged table MODEL_VL-RewardBench_JUDGE.xlsx (or .tsv, .csv, a JSON array).

Columns that its code uses (vlmeval/dataset/vl_rewardbench.py): index, question, response (a list as text), answer
(human_ranking as text), category, prediction; the judged table adds human_ranking and score. Its own table of the
benchmark was not seen, so an `id` column is not certain: without one, pairs are found by their texts in --pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.benchmarks import Benchmark
from proxygrm.evaluate.benchmarks.vl_rewardbench import category_of
from proxygrm.evaluate.layouts.base import Document, Layout, Reading, Row, Unusable, needs_pairs, shown
from proxygrm.evaluate.layouts.documents import TABLES, write_table
from proxygrm.evaluate.layouts.known_pairs import KnownPairs, released_id
from proxygrm.evaluate.layouts.vl_row import (
    VERDICT,
    VlRow,
    add_notes,
    better_of,
    exported,
    in_upstreams_order,
    judgement_of,
    responses_of,
)
from proxygrm.evaluate.rows.answers import bare_id

_TITLE = "VLMEvalKit"


def recognises(document: Document) -> bool:
    return document.has("index", "response", "prediction")


def read(document: Document, bench: Benchmark, file: int, known: KnownPairs) -> Reading:
    if not document.has("score"):
        raise UserError(
            f"{document.path} has predictions without `score`: pass the table that {_TITLE}'s judge has scored "
            f"(MODEL_VL-RewardBench_JUDGE.xlsx); its first row is {shown(document.first)}",
            code="eval.unscored-predictions",
            path=document.path,
        )
    with_ids = document.has("id")
    if not with_ids and not known.given:
        raise needs_pairs(document.path, _TITLE, "its rows have no `id`")
    reading, seen = Reading(), Counter[str]()
    for number, row in document.numbered:
        try:
            reading.judgements.append(judgement_of(_vl_row(row, known, with_ids), number, file, seen))
        except Unusable as reason:
            reading.refuse(number, row, str(reason))
    add_notes(reading, seen, "a wrong verdict")
    return reading


def _vl_row(row: Any, known: KnownPairs, with_ids: bool) -> VlRow:
    if isinstance(row, list):
        raise Unusable("it has more cells than the table has columns")
    if not isinstance(row, dict):
        raise Unusable("the row is not an object")
    ranking = row.get("human_ranking")
    better = better_of(row.get("answer") if ranking is None else ranking)
    responses, question = responses_of(row.get("response")), str(row.get("question") or "")
    if with_ids:
        if not has_id(row.get("id")):
            raise Unusable("no id")
        try:
            id_ = id_text(row["id"])
        except BadId as error:
            raise Unusable(str(error)) from None
    else:
        pair = known.with_texts(question, responses[better], responses[1 - better])
        if pair is None:
            raise Unusable("no pair of --pairs has these responses, the better one first")
        id_, question = released_id(pair), pair.question
    verdict = row.get(VERDICT)
    return VlRow(
        id_, better, _number(row.get("score")), str(row.get("prediction") or ""), responses, question,
        verdict if verdict == "tie" else _number(verdict), exported=VERDICT in row,
    )  # fmt: skip


def _number(value: Any) -> Any:
    """The number in a cell of text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def write(path: Path, rows: Sequence[Row]) -> None:
    lines = []
    for number, row in enumerate(rows):
        id_, as_released = bare_id(row["id"], row.get("source") or ""), exported(row)
        lines.append({
            "index": number, "id": id_, "question": row["question"], "response": str(as_released.responses),
            "answer": str(as_released.ranking), "category": category_of(id_), "prediction": row.get("critique") or "",
            "human_ranking": str(as_released.ranking), "score": as_released.score, VERDICT: as_released.verdict,
        })  # fmt: skip
    write_table(path, lines)


LAYOUT = Layout(
    "vlmevalkit",
    _TITLE,
    "vl-rewardbench",
    "certain: columns, score and order, from its code; not certain: whether rows have an `id`",
    recognises,
    read,
    write,
    in_upstreams_order,
    TABLES,
)
