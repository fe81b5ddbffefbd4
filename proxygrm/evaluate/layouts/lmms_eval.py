"""lmms-eval, task vl_rewardbench: the samples of a run with --log_samples, one JSON object per line.

Fields (lmms_eval/tasks/vl_rewardbench/utils.py, loggers/evaluation_tracker.py): doc_id, target (human_ranking as text),
input, filtered_resps, resps where it differs, and vlreward_score {question_id, category, score}. The tracker removes
`doc`, the released row; some files have it, and older ones are one object whose `logs` are such rows.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.benchmarks import Benchmark
from proxygrm.evaluate.benchmarks.vl_rewardbench import category_of
from proxygrm.evaluate.layouts.base import Document, Layout, Reading, Row, Unusable
from proxygrm.evaluate.layouts.known_pairs import KnownPairs, better_and_worse
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

SCORE = "vlreward_score"
_TEXTS = ("filtered_resps", "resps")


def _numbered(document: Document) -> Iterator[tuple[int, Any]]:
    logs = document.fields.get("logs")
    return enumerate(logs, 1) if isinstance(logs, list) else document.numbered


def recognises(document: Document) -> bool:
    _, first = next(_numbered(document), (0, None))
    return isinstance(first, dict) and SCORE in first


def read(document: Document, bench: Benchmark, file: int, known: KnownPairs) -> Reading:
    reading, seen, times = Reading(), Counter[str](), defaultdict[str, int](int)
    for number, row in _numbered(document):
        try:
            reading.judgements.append(judgement_of(_vl_row(row, known, times), number, file, seen))
        except Unusable as reason:
            reading.refuse(number, row, str(reason))
    add_notes(reading, seen, "a coin's verdict")
    return reading


def _vl_row(row: Any, known: KnownPairs, times: dict[str, int]) -> VlRow:
    score = row.get(SCORE) if isinstance(row, dict) else None
    if not isinstance(score, dict):
        raise Unusable(f"no `{SCORE}`")
    if not has_id(score.get("question_id")):
        raise Unusable(f"no `question_id` in `{SCORE}`")
    try:
        id_ = id_text(score["question_id"])
    except BadId as error:
        raise Unusable(str(error)) from None
    times[id_] += 1
    doc = row.get("doc") if isinstance(row.get("doc"), dict) else {}
    ranking = doc.get("human_ranking", row.get("target"))
    if isinstance(ranking, str) and not ranking.strip().startswith("["):
        ranking = doc.get("human_ranking")
    better, question, responses = better_of(ranking), str(doc.get("query") or ""), None
    if "response" in doc:
        responses = responses_of(doc["response"])
    elif known.given:
        question, responses = _looked_up(row, id_, better, known, times[id_] - 1)
    return VlRow(
        id_, better, score.get("score"), _text(row), responses, question, row.get(VERDICT), exported=VERDICT in row
    )


def _looked_up(row: Row, id_: str, better: int, known: KnownPairs, time: int) -> tuple[str, list[str]]:
    """Question and responses, from the pairs: of several with this id those in the prompt, else the next one."""
    pairs = known.with_id(id_)
    prompt = json.dumps(row["input"], ensure_ascii=False) if "input" in row else ""
    in_prompt = [
        p for p in pairs if all(json.dumps(t, ensure_ascii=False)[1:-1] in prompt for t in better_and_worse(p))
    ]
    if prompt and in_prompt:
        pairs = in_prompt
    elif len(pairs) > 1:
        pairs = pairs[time : time + 1]
    if not pairs:
        raise Unusable("no pair of --pairs has this id")
    responses = list(better_and_worse(pairs[0]))
    return pairs[0].question, responses if better == 0 else responses[::-1]


def _text(row: Row) -> str:
    name = next((name for name in _TEXTS if name in row), None)
    if name is None:
        raise Unusable(f"no text of the judge ({' or '.join(_TEXTS)})")
    value = row[name]
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            id_, as_released = bare_id(row["id"], row.get("source") or ""), exported(row)
            line = {
                "doc_id": number,
                "doc": {
                    "id": id_, "query": row["question"], "response": as_released.responses,
                    "human_ranking": as_released.ranking,
                },
                "target": str(as_released.ranking),
                "resps": [[row.get("critique") or ""]],
                "filtered_resps": [row.get("critique") or ""],
                SCORE: {"question_id": id_, "category": category_of(id_), "score": as_released.score},
                VERDICT: as_released.verdict,
            }  # fmt: skip
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


LAYOUT = Layout(
    "lmms-eval",
    "lmms-eval",
    "vl-rewardbench",
    "certain: fields, score and order, from its code; from memory: the older form with `logs`",
    recognises,
    read,
    write,
    in_upstreams_order,
)
