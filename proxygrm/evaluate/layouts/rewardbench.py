"""RewardBench's own results (allenai/reward-bench: scripts/run_rm.py, run_generative.py, rewardbench/rewardbench.py).

scores    one JSON object of columns: subset, id, results (1, 0, or 0.5 for a verdict that could not be read);
          scores_chosen and scores_rejected of a scalar model; model, model_type, chat_template
summary   one JSON object of shares by subset, or with them in `extra_results`: how many rows are right, not which
lines     JSON lines {chosen, rejected} of scores, in the order of the split: pairs are taken from --pairs in order
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.ids import BadId, id_text
from proxygrm.evaluate.benchmarks import Benchmark, Facts
from proxygrm.evaluate.benchmarks.rewardbench import SIZES, row_id
from proxygrm.evaluate.layouts.base import Document, Layout, Reading, Row, Unusable, needs_pairs, shown
from proxygrm.evaluate.layouts.known_pairs import KnownPairs, released_id
from proxygrm.evaluate.rows.answers import RIGHT, TIE, UNPARSED, WRONG, Judgement, bare_id

_TITLE = "RewardBench's results"
_COLUMNS = ("subset", "id", "results", "scores_chosen", "scores_rejected")


def recognises(document: Document) -> bool:
    if document.rows:
        return isinstance(document.first, dict) and document.first.keys() == {"chosen", "rejected"}
    return document.has("subset", "results") or bool(_shares(document.fields))


def read(document: Document, bench: Benchmark, file: int, known: KnownPairs) -> Reading:
    if document.rows:
        return _read_lines(document, file, known)
    return _read_scores(document, file) if document.has("subset", "results") else _read_summary(document, file)


def _shares(fields: Mapping[str, Any]) -> dict[str, Any]:
    extra = fields.get("extra_results")
    found = extra if isinstance(extra, dict) else fields
    return {subset: share for subset, share in found.items() if subset in SIZES}


def _judgement(number: int, file: int, subset: str, id_: str, outcome: int, recorded: bool) -> Judgement:
    facts = Facts(row_id(subset, id_), subset, "", "")
    return Judgement(number, file, (facts.id, 0), facts, facts.id, "", None, 0, outcome, 0, recorded)


def _read_scores(document: Document, file: int) -> Reading:
    columns = {name: document.fields.get(name) for name in _COLUMNS}
    given = {name: column for name, column in columns.items() if isinstance(column, list)}
    if len({len(column) for column in given.values()}) != 1 or not {"subset", "id", "results"} <= given.keys():
        sizes = {name: len(column) for name, column in given.items()}
        raise UserError(
            f"{document.path}: the columns of {_TITLE} are subset, id and results of one length; this has "
            f"{shown(sizes)}",
            code="eval.bad-columns",
            path=document.path,
            columns=sizes,
        )
    reading = Reading()
    lines = zip(*(given.get(name, repeat(None)) for name in _COLUMNS), strict=False)
    for number, values in enumerate(lines, 1):
        row = dict(zip(_COLUMNS, values, strict=True))
        try:
            reading.judgements.append(_scored(row, number, file))
        except Unusable as reason:
            reading.refuse(number, row, str(reason))
    reading.note_repeated_ids()
    return reading


def _scored(row: Row, number: int, file: int) -> Judgement:
    if not isinstance(row["subset"], str) or row["subset"] not in SIZES:
        raise Unusable("`subset` is none of RewardBench's")
    try:
        id_ = id_text(row["id"])
    except BadId as error:
        raise Unusable(str(error)) from None
    result, scores = row["results"], (_scalar(row["scores_chosen"]), _scalar(row["scores_rejected"]))
    if type(result) not in (int, float) or result not in (0, 0.5, 1):
        raise Unusable("`results` is none of 1, 0.5 and 0")
    outcome = {1: RIGHT, 0: WRONG, 0.5: UNPARSED}[result]
    if None not in scores:
        outcome = _of_scores(*scores)
        if (outcome == RIGHT) != (result == 1):
            raise Unusable("`results` contradicts the scores")
    return _judgement(number, file, row["subset"], id_, outcome, result == 1)


def _of_scores(chosen: Any, rejected: Any) -> int:
    if any(type(score) not in (int, float) or score - score != 0 for score in (chosen, rejected)):
        raise Unusable("a score is not a finite number")
    return TIE if chosen == rejected else RIGHT if chosen > rejected else WRONG


def _scalar(value: Any) -> Any:
    """Some models' scores are lists of one number."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _read_summary(document: Document, file: int) -> Reading:
    reading, halves = Reading(rowless=True), 0
    for at, (subset, share) in enumerate(_shares(document.fields).items(), 1):
        rows = SIZES[subset]
        double = round(share * rows * 2) if type(share) in (int, float) and 0 <= share <= 1 else -1
        if double < 0 or abs(share * rows - double / 2) > 1e-6 * rows:
            reading.refuse(at, {subset: share}, f"the share is not one of {rows} rows")
            continue
        right, half = divmod(double, 2)
        halves += half
        outcomes = [RIGHT] * right + [UNPARSED] * half + [WRONG] * (rows - right - half)
        reading.judgements += [_judgement(at, file, subset, str(n), o, o == RIGHT) for n, o in enumerate(outcomes)]
    reading.notes.append("made from the shares of the subsets: which of their rows are right is not known")
    if halves:
        reading.notes.append(
            f"{halves} subsets have an odd number of rows that count one half; how many such rows there are in all is "
            "not known, and every two of them appear as one right and one wrong row"
        )
    return reading


def _read_lines(document: Document, file: int, known: KnownPairs) -> Reading:
    if not known.given:
        raise needs_pairs(document.path, _TITLE, "its lines have neither an id nor a subset")
    if len(document.rows) != len(known.pairs):
        raise UserError(
            f"{document.path} has {len(document.rows):,} lines for {len(known.pairs):,} pairs of {known.path}; its "
            "lines are matched in order, so both must have all rows of the split `filtered`",
            code="eval.layout-other-length",
            path=document.path,
            lines=len(document.rows),
            pairs=len(known.pairs),
        )
    reading = Reading()
    for (number, row), pair in zip(document.numbered, known.pairs, strict=True):
        try:
            if not isinstance(row, dict):
                raise Unusable("the line is not a JSON object")
            outcome = _of_scores(_scalar(row.get("chosen")), _scalar(row.get("rejected")))
        except Unusable as reason:
            reading.refuse(number, row, str(reason))
        else:
            id_ = released_id(pair).partition("/")[2]
            reading.judgements.append(_judgement(number, file, pair.category, id_, outcome, outcome == RIGHT))
    reading.notes.append("the lines have no ids: they are taken to be in the order of the pairs")
    return reading


def write(path: Path, rows: Sequence[Row]) -> None:
    columns: dict[str, list[Any]] = {name: [] for name in (*_COLUMNS, "text_chosen", "text_rejected")}
    for row in rows:
        better = row["label"] - 1
        scores, verdict = row.get("scores"), row["verdict"]
        responses = row["response_1"], row["response_2"]
        subset, _, id_ = bare_id(row["id"], row.get("source") or "").partition("/")
        unclear = 0 if scores else 0.5
        columns["subset"].append(subset)
        columns["id"].append(int(id_) if id_.isdecimal() and str(int(id_)) == id_ else id_)
        columns["results"].append(int(verdict == row["label"]) if verdict in (1, 2) else unclear)
        columns["scores_chosen"].append(scores[better] if scores else None)
        columns["scores_rejected"].append(scores[1 - better] if scores else None)
        for name, response in (("text_chosen", responses[better]), ("text_rejected", responses[1 - better])):
            turns = ("user", row["question"]), ("assistant", response)
            columns[name].append([{"role": role, "content": content} for role, content in turns])
    scalar = all(score is not None for score in columns["scores_chosen"])
    if not scalar:
        columns = {name: column for name, column in columns.items() if not name.startswith("scores_")}
    kind = "Seq. Classifier" if scalar else "Generative RM"
    fields = {**columns, "model": path.stem, "model_type": kind, "chat_template": None}
    path.write_text(json.dumps(fields, indent=4, sort_keys=True), encoding="utf-8")


LAYOUT = Layout(
    "rewardbench",
    _TITLE,
    "rewardbench",
    "certain: columns, results and shares, from its scripts; not certain: the lines without ids, of --save_all",
    recognises,
    read,
    write,
    lambda row: row.get("order") == "as_is",
)
