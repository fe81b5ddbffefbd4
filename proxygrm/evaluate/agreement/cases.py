"""Rollouts (or judgement rows) as cases for a proxy: a pair with its images, a rubric, and the label."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.labels import BadLabel, Label, NoLabel, as_label, label_in
from proxygrm.critique.contract import parse
from proxygrm.evaluate.rows.pairs import EvalPair, image_files, image_names, load_pairs
from proxygrm.rewards.proxy_agreement import rubric_to_judge

_TEXTS = ("question", "response_1", "response_2")


@dataclass(frozen=True)
class Case:
    """images: paths. rubric: the closed rubric, the only part of the critique that a proxy may see."""

    id: str
    question: str
    response_1: str
    response_2: str
    images: tuple[str, ...]
    rubric: str
    label: Label

    @property
    def pair(self) -> str:
        """Equal for rollouts of the same pair, which are not independent trials."""
        return _digest(self.question, self.response_1, self.response_2, *self.images)

    @property
    def key(self) -> str:
        """Identifies the judgement. Equal for rollouts with the same text, which are judged once."""
        return _digest(self.pair, self.rubric, str(self.label))


@dataclass
class Cases:
    """read: rows in the files; taken: those within the limit. left_out: rows that are not a case, by reason;
    `nothing_to_judge` are those whose critique has no closed rubric, or one that names the winner: as in training,
    they are not sent to a proxy."""

    cases: list[Case] = field(default_factory=list)
    read: int = 0
    taken: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def read_cases(sources: Sequence[Path], pairs: Path | None = None, limit: int = 0) -> Cases:
    """Rows of JSONL files, or of the JSONL files of folders: RL's `rollouts`, a teacher's `critiques`, `answers.jsonl`
    of an evaluation.

    A row has `critique` (or `response`, or only a `rubric`), `label` (see `labels.label_in`), and question, response_1,
    response_2, images; or else the `id` of a pair in `pairs`: RL's training file (verl's parquet), a pairs folder or
    its JSONL. pairs None: the training files of RL (verl's parquet) in the run folder of the rows, if they are in
    one. limit: so many rows,
    spread evenly; 0: all. UserError for a path without such files, and when no row can be used.
    """
    files = [file for source in sources for file in _files(source)]
    cases, pairs_by_id = Cases(), dict[str, EvalPair]()
    rows = list(_rows(files, cases))
    if limit and limit < len(rows):
        rows = [rows[index * len(rows) // limit] for index in range(limit)]
    cases.taken = len(rows) + cases.left_out.total()
    if any(not _complete(row) for _, row in rows) and (known := [pairs] if pairs else _training_files(files)):
        pairs_by_id = {pair.id: pair for source in known for pair in _pairs(source)}
    for file, row in rows:
        case = _case(row, pairs_by_id, file.parent)
        if isinstance(case, Case):
            cases.cases.append(case)
        else:
            cases.left_out[case] += 1
    if not cases.cases:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in cases.left_out.most_common()) or "no rows"
        hint = "; pass RL's training file with --pairs" if cases.left_out["pair_unknown"] else ""
        raise UserError(
            f"{', '.join(map(str, sources))}: nothing to judge ({reasons}){hint}",
            code="proxy.nothing-to-judge",
            paths=[str(source) for source in sources],
            left_out=dict(cases.left_out),
        )
    return cases


def _case(row: Mapping[str, Any], pairs_by_id: Mapping[str, EvalPair], folder: Path) -> Case | str:
    """The case, or the reason why the row is not one."""
    id_ = str(row.get("id", ""))
    critique = next((row[key] for key in ("critique", "response", "rubric") if isinstance(row.get(key), str)), None)
    if critique is None:
        return "no_critique"
    pair = None if _complete(row) else pairs_by_id.get(id_)
    try:
        label = label_in(row)
    except NoLabel:
        if not pair:
            return "no_label" if _complete(row) else "pair_unknown"
        label = as_label(pair.label)
    except BadLabel as error:
        return error.cause
    if _complete(row):
        question, response_1, response_2 = (row[key] for key in _TEXTS)
        try:
            images = [str(file) for file in image_files(image_names(row), folder)]
        except ValueError:
            return "images_are_no_paths"
    elif pair:
        if pair.label != label:
            return "label_mismatch"
        question, response_1, response_2 = pair.question, pair.response_1, pair.response_2
        images = [str(image) for image in pair.images]
    else:
        return "pair_unknown"
    rubric = rubric_to_judge(parse(critique))
    if rubric is None:
        return "nothing_to_judge"
    return Case(id_, question, response_1, response_2, tuple(images), rubric, label)


def _complete(row: Mapping[str, Any]) -> bool:
    return all(isinstance(row.get(key), str) and row[key] for key in _TEXTS)


def _rows(files: Iterable[Path], cases: Cases) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for file in files:
        try:
            lines = [line for _, line in numbered_lines(file)]
        except OSError as error:
            raise UserError(
                f"cannot read {file}: {error.strerror}", code="file.cannot-read", path=file, reason=error.strerror
            ) from error
        for line in lines:
            cases.read += 1
            try:
                row = value_of(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield file, row
            else:
                cases.left_out["not_json"] += 1


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(
            f"no rollouts at {source}: pass a JSONL file, or a folder of JSONL files",
            code="proxy.no-rollouts",
            path=source,
        )
    if not (files := sorted(source.glob("*.jsonl"))):
        raise UserError(
            f"{source} has no .jsonl files; a run's rollouts are in RUN/STAGE/rollouts",
            code="proxy.no-rollouts",
            path=source,
        )
    return files


def _training_files(files: Sequence[Path]) -> list[Path]:
    """Of the run folder that the rollouts are in; [] when they are in none."""
    run = next((folder for folder in files[0].absolute().parents if (folder / "run.json").is_file()), None)
    files_of_stages = sorted(run.glob("*/*.parquet")) if run else []
    superseded = {file for file in files_of_stages if "." in file.parent.name}  # folders that were moved aside
    return [file for file in files_of_stages if file not in superseded and _has_pairs(file)]


def _has_pairs(file: Path) -> bool:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return "extra_info" in read_schema(file).names
    except (OSError, ArrowException):
        return False


def _pairs(source: Path) -> Iterable[EvalPair]:
    if source.suffix != ".parquet":
        return load_pairs(source)
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        rows = read_table(source, columns=["extra_info"])["extra_info"].to_pylist()
        return [
            EvalPair(
                row["id"],
                row["question"],
                row["response_1"],
                row["response_2"],
                as_label(row["label"]),
                tuple(Path(image) for image in row["images"]),
            )
            for row in rows
        ]
    except (OSError, ArrowException, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{source} is not a training file of RL: {reason}",
            code="proxy.not-training-file",
            path=source,
            reason=reason,
        ) from error


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
