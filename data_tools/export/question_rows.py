"""Questions that a policy is trained and measured on: JSONL in, verl's parquet, ms-swift's JSONL and held-out rows out.

    {"question": "How many dots?", "image": "7.png", "answer": "4"}         image or images: paths, or none
    optional: id, answers (several that are right), choices (options that a letter names), reference (a response that
    a reward model compares with; the first answer where there is none)

Equal questions about equal images stay together, so none of the held-out ones is trained on. Rows that cannot be used
are left out, counted and listed by their cause.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.files.whole_file import whole_file, write_json
from proxygrm.core.ids import has_id, id_text
from proxygrm.core.images.fields import is_gap
from proxygrm.core.images.settle import UnreadableImage, image_of
from proxygrm.core.images.store import ImageStore
from proxygrm.core.unicode_text import check_unicode
from proxygrm.critique.prompts import IMAGE_TAG, inert
from proxygrm.critique.prompts.process import question_prompt
from proxygrm.evaluate.process.questions import question_of
from proxygrm.evaluate.rows.text import reasons_text
from proxygrm.process.policy_json import steps_of

TRAIN, VALIDATION, HELD_OUT, COLD_START = "train", "validation", "held_out", "cold_start"
IMAGES, INDEX, REPORT = "images", "index.json", "report.json"
GROUP = 256
"""Rows that are written together."""
LISTED = 100
"""Lines of each cause in the report."""
Ask = Callable[[str], str]
"""A question -> what the policy is asked, without image tags."""


@dataclass(frozen=True)
class Amounts:
    """How many questions go where; all others train."""

    held_out: int
    """To measure the policy on, with a known answer or without."""
    validation: int
    """Asked during RL."""
    cold_start: int
    """To fine-tune the policy on before RL; they have an answer."""


@dataclass(frozen=True)
class QuestionRow:
    id: str
    question: str
    images: tuple[Path, ...]
    """In the store."""
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    reference: str = ""

    @property
    def key(self) -> str:
        """Of the question and what the images show."""
        return "\0".join([" ".join(self.question.split()), *(path.name for path in self.images)])


def write_question_rows(
    source: Path,
    out: Path,
    amounts: Amounts,
    *,
    images_root: Path | None = None,
    instruction: str = "",
    steps: bool = False,
    seed: int = 0,
    max_bad: float = 0.01,
) -> dict[str, Any]:
    """TRAIN.parquet and VALIDATION.parquet for verl, HELD_OUT.jsonl, COLD_START.jsonl for ms-swift (if any), IMAGES/
    and REPORT; returns the report. instruction: follows each question in the prompts. steps: they ask for a solution in
    steps instead, and the references of a cold start are such solutions.

    UserError: too many bad rows, or too few questions for the amounts.
    """
    store = ImageStore(out, IMAGES)
    rows, bad = read_question_rows(source, images_root or source.parent, store)
    total = len(rows) + sum(map(len, bad.values()))
    if bad and (not rows or sum(map(len, bad.values())) > max_bad * total):
        raise UserError(
            f"{source}: {reasons_text(bad)}; fix these rows, or allow their share with max_bad",
            code="questions.bad-rows", path=source, reasons=bad,
        )  # fmt: skip
    if not rows:
        raise UserError(f"{source} has no rows; give a JSONL of questions", code="file.empty", path=source)
    ask = partial(question_prompt, instruction=instruction, steps=steps)
    parts = split(rows, amounts, seed, steps)
    if len(parts[HELD_OUT]) < amounts.held_out or not parts[TRAIN] or len(parts[COLD_START]) < amounts.cold_start:
        found = ", ".join(f"{len(part):,} for {name}" for name, part in parts.items())
        raise UserError(
            f"{source}: {len(rows):,} questions are too few: {found}; lower held_out, validation or cold_start "
            "(whose questions need an answer, and with steps a reference in steps)",
            code="questions.too-few", path=source, rows=len(rows), parts={n: len(p) for n, p in parts.items()},
        )  # fmt: skip
    for name in (TRAIN, VALIDATION):
        write_parquet(parts[name], out / f"{name}.parquet", ask)
    _write_lines(out / f"{HELD_OUT}.jsonl", map(_held_out_row, parts[HELD_OUT]))
    if amounts.cold_start:
        lines = (_swift_row(row, ask) for row in parts[COLD_START])
        _write_lines(out / f"{COLD_START}.jsonl", lines)
    report = {
        "rows": total,
        "used": len(rows),
        "without_answer": sum(not row.answers for row in rows),
        **{name: len(part) for name, part in parts.items()},
        "images": len(store),
        "bad": {cause: len(lines) for cause, lines in bad.items()},
        "bad_lines": {cause: lines[:LISTED] for cause, lines in bad.items()},
    }
    write_json(out / IMAGES / INDEX, {"images": len(store)})  # so that the folder of no images is one, too
    write_json(out / REPORT, report)
    return report


def read_question_rows(
    path: Path, images_root: Path, store: ImageStore
) -> tuple[list[QuestionRow], dict[str, list[int]]]:
    """The usable rows, and the lines of the others by cause."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a JSONL of questions", code="file.not-a-file", path=path)
    rows: list[QuestionRow] = []
    bad: dict[str, list[int]] = defaultdict(list)
    ids: set[str] = set()
    for number, line in numbered_lines(path):
        try:
            row = _row(_value(line), number, images_root, store)
            if row.id in ids:
                raise BadRow("repeated_id", f"id {row.id!r} is that of an earlier row")
        except BadRow as error:
            bad[error.cause].append(number)
        else:
            ids.add(row.id)
            rows.append(row)
    return rows, dict(bad)


def _value(line: bytes) -> Any:
    try:
        return value_of(line)
    except ValueError as error:
        raise BadRow("not_json", str(error)) from None


def _row(value: Any, number: int, images_root: Path, store: ImageStore) -> QuestionRow:
    asked = question_of(value, images_root)
    for name in ("id", "question", "answer", "answers", "choices", "reference"):
        check_unicode(value.get(name), name)
    answers = _texts(value, "answers") or _texts(value, "answer")
    reference = value.get("reference")
    if reference is not None and not isinstance(reference, str):
        raise BadRow("bad_reference", f"reference is {type(reference).__name__}, it must be text")
    try:
        row_id = id_text(value["id"]) if has_id(value.get("id")) else f"line {number}"
        names = [store.add(image_of(image)) if image.is_file() else "" for image in asked.images]
    except UnreadableImage as error:
        raise BadRow("unreadable_image", str(error)) from None
    except ValueError as error:
        raise BadRow("bad_id", str(error)) from None
    if "" in names:
        raise BadRow("missing_image", f"{asked.images[names.index('')]} does not exist")
    images = tuple(store.folder.absolute() / name for name in names)
    text = reference if reference and reference.strip() else answers[0] if answers else ""
    return QuestionRow(row_id, asked.text, images, answers, _choices(value), text)


def _choices(row: dict[str, Any]) -> tuple[str, ...]:
    """Raises BadRow: without one of them, the letters of those behind it would be others."""
    choices = _texts(row, "choices")
    given = row.get("choices")
    if isinstance(given, list) and len(choices) < len(given):
        raise BadRow("bad_choices", "one of the choices is null or blank")
    return choices


def _texts(row: dict[str, Any], name: str) -> tuple[str, ...]:
    """A value or a list of them as texts, without nulls; numbers are written as JSON. Raises BadRow."""
    value = row.get(name)
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict | list) for item in items):
        raise BadRow(f"bad_{name}", f"{name} is not a text, a number or a list of these")
    texts = (item if isinstance(item, str) else json.dumps(item) for item in items if not is_gap(item))
    return tuple(text for text in texts if text.strip())


def split(rows: Sequence[QuestionRow], amounts: Amounts, seed: int, steps: bool) -> dict[str, list[QuestionRow]]:
    """In an order that depends on the seed and the questions alone. Rows of one key go to the same part."""
    groups: dict[str, list[QuestionRow]] = defaultdict(list)
    for row in rows:
        groups[row.key].append(row)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode(errors="backslashreplace")).digest())
    wanted = {HELD_OUT: amounts.held_out, VALIDATION: amounts.validation, COLD_START: amounts.cold_start}
    parts: dict[str, list[QuestionRow]] = {name: [] for name in (TRAIN, *wanted)}
    for key in order:
        group = groups[key]
        known = all(row.answers and (not steps or steps_of(row.reference)[0]) for row in group)
        fits = (
            name
            for name, most in wanted.items()
            if len(parts[name]) + len(group) <= most and (known or name != COLD_START)
        )
        parts[next(fits, TRAIN)] += group
    return parts


def write_parquet(rows: Sequence[QuestionRow], path: Path, ask: Ask) -> None:
    """Rows as verl reads them, with their images, of which a row group's are in memory; `extra_info` is what
    `proxygrm.rewards.answers` reads."""
    import pyarrow as pa

    from data_tools.export.to_verl import open_parquet

    text = pa.string()
    texts = pa.list_(text)
    extra = [("id", text), ("question", text), ("images", texts), ("answers", texts), ("choices", texts)]
    schema = pa.schema(
        [
            ("data_source", text),
            ("prompt", pa.list_(pa.struct([("role", text), ("content", text)]))),
            ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", text)]))),
            ("reward_model", pa.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pa.struct([*extra, ("reference", text)])),
        ]
    )
    with whole_file(path) as scratch, open_parquet(scratch, schema) as file:
        for begin in range(0, len(rows), GROUP):
            group = [_verl_row(row, ask) for row in rows[begin : begin + GROUP]]
            file.write_table(pa.Table.from_pylist(group, schema))
        if not rows:
            file.write_table(schema.empty_table())


def _verl_row(row: QuestionRow, ask: Ask) -> dict[str, Any]:
    content = IMAGE_TAG * len(row.images) + ask(row.question)
    return {
        "data_source": "questions",
        "prompt": [{"role": "user", "content": content}],
        "images": [{"bytes": image.read_bytes(), "path": None} for image in row.images],
        "reward_model": {"style": "rule", "ground_truth": row.answers[0] if row.answers else ""},
        "extra_info": _held_out_row(row),
    }


def _held_out_row(row: QuestionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "question": row.question,
        "images": [str(image) for image in row.images],
        "answers": list(row.answers),
        "choices": list(row.choices),
        "reference": row.reference,
    }


def _swift_row(row: QuestionRow, ask: Ask) -> dict[str, Any]:
    content = IMAGE_TAG * len(row.images) + ask(row.question)
    answer = inert(row.reference or row.answers[0], contract=False)
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"id": row.id, "messages": messages, "images": [str(image) for image in row.images]}


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
