"""Rows of any kind in one form, with the problems of each: for checking, counting and showing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.ingest.image_paths import files_of
from data_tools.ingest.part import expanded, interpret
from data_tools.ingest.raw_rows import read_span
from data_tools.inspect.kinds import EXPECTED, Kind, RawFile
from data_tools.sources import load
from data_tools.sources.base import Excluded, ScoredResponse, layouts
from proxygrm.core.errors import UserError
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.core.images.fields import NotGiven
from proxygrm.core.images.paths import MissingImage, OutsideRoot, resolve
from proxygrm.core.labels import same_label
from proxygrm.core.unicode_text import is_unicode
from proxygrm.critique.contract import parse
from proxygrm.critique.prompts import IMAGE_TAG


@dataclass
class InspectedRow:
    """A row. `images`: bytes, or paths of existing files; missing ones are problems instead."""

    file: str
    number: int  # from 1
    id: str = ""
    source: str = ""
    texts: dict[str, str] = field(default_factory=dict)  # question, response_1, ... in the order of display
    label: int | None = None  # the better of response_1 and response_2
    images: list[bytes | Path] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)  # (reason, detail): why it cannot be used
    remarks: list[str] = field(default_factory=list)  # unusual or unwanted, but not wrong

    def set_id(self, value: Any) -> None:
        """Set the id as ingestion reads it, or add a problem."""
        try:
            self.id = id_text(value) if has_id(value) else ""
        except BadId as error:
            self.id = str(value)
            self.add_problem("bad_id", str(error))
        if not is_unicode(self.id):
            self.add_problem("not_unicode", "in the id")

    def add_problem(self, reason: str, detail: str = "") -> None:
        self.problems.append((reason, detail))

    def add_text(self, name: str, value: Any, empty: bool = False) -> None:
        """Add a text, or the problem with it."""
        if not isinstance(value, str):
            self.add_problem("missing_text" if value is None else "not_text", f"{name} is {type(value).__name__}")
            return
        self.texts[name] = value
        if not is_unicode(value):
            self.add_problem("not_unicode", f"a lone surrogate in {name}")
        if not empty and not value.strip():
            self.add_problem("empty_text", name)


def rows_of(path: Path, kind: Kind, files: list[RawFile], images_root: Path | None = None) -> Iterator[InspectedRow]:
    """Every row, in order. Raises UserError for a damaged file."""
    if kind.name == "pairs":
        yield from _pairs(path)
        return
    root = (images_root or (path if path.is_dir() else path.parent)).resolve()
    reader = {"verl": _verl, "swift": _swift, "critiques": _critique}.get(kind.name)
    source = None if reader else load("preference-jsonl" if kind.name == "bench" else kind.name)
    columns = layouts(source) if source else (("data_source", "prompt", "reward_model"),)
    optional = source.optional if source else ("images", "extra_info")
    span = range(sum(file.units for file in files))
    raw_rows = read_span(files, span, columns, optional, EXPECTED)
    for index, number, raw in expanded(source, raw_rows) if source else raw_rows:
        row = InspectedRow(files[index].name, number)
        if isinstance(raw, Excluded):
            _add_exclusion(row, raw)
        elif reader:
            reader(row, raw, root)
        elif source:
            has_video = kind.name == "bench" and raw.get("video")
            _release(row, interpret(load("mm-rlhf-rewardbench") if has_video else source, raw), raw, root)
            if kind.name == "bench" and not row.images and not row.problems:
                row.remarks.append("no_image")
        yield row


def _add_exclusion(row: InspectedRow, excluded: Excluded) -> None:
    row.id = row.id or str("" if excluded.id is None else excluded.id)
    if excluded.bad:
        row.add_problem(excluded.reason, excluded.detail)
    else:
        row.remarks.append(excluded.reason)


def _pairs(path: Path) -> Iterator[InspectedRow]:
    from data_tools.rows.pair_tables import pair_tables

    number = 0
    for table in pair_tables(path):
        for pair in table.to_pylist():
            number += 1
            row = InspectedRow("pairs.parquet", number, pair["id"], pair["source"], label=pair["label"])
            for name in ("question", "response_1", "response_2"):
                row.add_text(name, pair[name])
            if row.label not in (1, 2):
                row.add_problem("bad_label", f"label is {row.label}")
            if pair["response_1"].strip() == pair["response_2"].strip():
                row.add_problem("same_responses")
            _add_files(row, pair["images"], None)
            yield row


def _release(row: InspectedRow, read: Any, raw: dict[str, Any], root: Path) -> None:
    if isinstance(read, Excluded):
        row.set_id(read.id if has_id(read.id) else raw.get("id"))
        _add_exclusion(row, read)
        return
    row.set_id(read.id)
    row.add_text("question", read.question)
    if isinstance(read, ScoredResponse):
        row.add_text("response", read.response)
    else:
        row.source = read.source
        row.add_text("chosen", read.chosen)
        row.add_text("rejected", read.rejected)
        if not row.problems and read.chosen.strip() == read.rejected.strip():
            row.remarks.append("same_responses")
    for image in read.images:
        if isinstance(image, bytes):
            row.images.append(image)
            continue
        if isinstance(image, NotGiven):
            row.add_problem("missing_image", image.why)
            continue
        try:
            _add_files(row, files_of(image, root), root)
        except MissingImage as error:
            row.add_problem("missing_image", str(error))
        except OutsideRoot as error:
            row.add_problem("image_outside_root", str(error))


def _add_files(row: InspectedRow, paths: list[Any], root: Path | None) -> None:
    """Add existing image files. root: paths outside it are a problem; None: any path is allowed."""
    for path in paths:
        if not isinstance(path, str):
            row.add_problem("bad_image", f"{type(path).__name__} where a path should be")
            continue
        try:
            file = Path(path) if root is None else resolve(path, root)
            exists = file.is_file()
        except MissingImage:
            exists = False
        except OutsideRoot as error:
            row.add_problem("image_outside_root", str(error))
            continue
        except ValueError:
            exists = False
        if exists:
            row.images.append(file)
        else:
            row.add_problem("missing_image", path)


def _critique(row: InspectedRow, raw: dict[str, Any], root: Path) -> None:
    if not isinstance(raw.get("id"), str):
        row.add_problem("bad_id", f"id is {type(raw.get('id')).__name__}")
    row.id, row.source = str(raw.get("id")), str(raw.get("model") or "")
    row.add_text("critique", raw.get("critique"), empty=True)
    if "critique" in row.texts:
        critique = parse(row.texts["critique"])
        if critique.reason:
            row.add_problem(critique.reason)
        elif critique.verdict != raw.get("verdict", critique.verdict):
            row.add_problem("verdict_differs", f"the row has {raw['verdict']!r}, the critique {critique.verdict}")
        else:
            row.remarks += [problem.value for problem in critique.problems]


def _check_tags(row: InspectedRow, contents: list[str], images: int) -> None:
    tags = sum(text.count(IMAGE_TAG) for text in contents)
    if tags != images:
        row.add_problem("image_tags_differ", f"{tags} image tags for {images} images")


def _add_turns(row: InspectedRow, turns: list[dict[str, Any]]) -> None:
    """Name the texts by role; repeated roles get the number of the turn."""
    for i, turn in enumerate(turns, 1):
        role = str(turn.get("role"))
        row.add_text(role if role not in row.texts else f"{role} {i}", turn.get("content"))


def _swift(row: InspectedRow, raw: dict[str, Any], root: Path) -> None:
    row.set_id(raw.get("id"))
    turns = raw.get("messages")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        row.add_problem("bad_messages", "messages must be a list of {role, content}")
        return
    roles = [turn.get("role") for turn in turns]
    dialogue = roles[1:] if roles[0] == "system" else roles
    if not dialogue or dialogue != ["user", "assistant"] * (len(dialogue) // 2):
        row.add_problem("bad_roles", ", ".join(map(str, roles)))
    _add_turns(row, turns)
    images = raw.get("images") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list):
        row.add_problem("bad_image", f"images is {type(images).__name__}")
        return
    paths = [image.get("path") if isinstance(image, dict) else image for image in images]
    _add_files(row, [str(root / path) if isinstance(path, str) else path for path in paths], None)
    _check_tags(row, list(row.texts.values()), len(images))


def _verl(row: InspectedRow, raw: dict[str, Any], root: Path) -> None:
    extra = raw.get("extra_info") or {}
    row.set_id(extra.get("id"))
    row.source = str(extra.get("source") or raw.get("data_source") or "")
    turns = raw.get("prompt")
    if not isinstance(turns, list) or not turns:
        row.add_problem("bad_prompt", "prompt must be a list of {role, content}")
        return
    _add_turns(row, turns)
    prompts = list(row.texts.values())
    for name in ("question", "response_1", "response_2", "rubric"):
        if extra.get(name) is not None:
            row.add_text(name, extra[name])
    truth, label = (raw.get("reward_model") or {}).get("ground_truth"), extra.get("label")
    if truth is None:
        row.add_problem("no_ground_truth")
    elif label is not None and not same_label(truth, label):
        row.add_problem("labels_differ", f"ground truth {truth!r}, extra_info.label {label!r}")
    row.label = label if label in (1, 2) else None
    images = raw.get("images") or []
    for image in images:
        if not isinstance(image, dict):
            row.add_problem("missing_image", f"{type(image).__name__} where an image should be")
        elif isinstance(image.get("bytes"), bytes):
            row.images.append(image["bytes"])
        elif image.get("image"):
            _add_files(row, [str(root / image["image"])], None)
        else:
            row.add_problem("image_verl_cannot_open", 'neither {"bytes"} nor {"image": path}')
    _check_tags(row, prompts, len(images))


def require_rows(path: Path, kind: Kind, rows: int) -> None:
    """Raises UserError if there are no rows."""
    if not rows:
        raise UserError(f"{path} ({kind.title}) has no rows", code="data.no-rows", path=path)
