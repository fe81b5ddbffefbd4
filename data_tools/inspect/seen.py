"""Rows of any kind as one shape, with what is wrong with each: for checking, counting and showing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.ingest.part import is_unicode, understand
from data_tools.ingest.picture_paths import files_of
from data_tools.ingest.raw_rows import read_span
from data_tools.inspect.kinds import GIVE, Kind, RawFile
from data_tools.sources import load
from data_tools.sources.base import Left, Scored, layouts
from proxygrm.core.errors import UserError
from proxygrm.core.ids import BadId, given, id_text
from proxygrm.core.images.fields import NotGiven
from proxygrm.core.images.paths import MissingPicture, OutsideRoot, resolve
from proxygrm.core.labels import same_label
from proxygrm.critique.contract import parse
from proxygrm.critique.prompts import IMAGE_TAG


@dataclass
class Seen:
    """A row. `pictures`: bytes, or a path to open; those that cannot be found are problems instead."""

    file: str
    number: int  # from 1
    id: str = ""
    source: str = ""
    texts: dict[str, str] = field(default_factory=dict)  # question, response_1, ... in the order to show
    label: int | None = None  # the better of response_1 and response_2
    pictures: list[bytes | Path] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)  # (reason, detail): the row cannot be used so
    remarks: list[str] = field(default_factory=list)  # odd, or of no use, but not wrong

    def name(self, value: Any) -> None:
        """Keep the id as ingestion reads it, or say why it is none."""
        try:
            self.id = id_text(value) if given(value) else ""
        except BadId as error:
            self.id = str(value)
            self.wrong("bad_id", str(error))
        if not is_unicode(self.id):
            self.wrong("not_unicode", "in the id")

    def wrong(self, reason: str, detail: str = "") -> None:
        self.problems.append((reason, detail))

    def text(self, name: str, value: Any, empty: bool = False) -> None:
        """Keep a text, or say what it is instead."""
        if not isinstance(value, str):
            self.wrong("missing_text" if value is None else "not_text", f"{name} is {type(value).__name__}")
            return
        self.texts[name] = value
        if not is_unicode(value):
            self.wrong("not_unicode", f"a lone surrogate in {name}")
        if not empty and not value.strip():
            self.wrong("empty_text", name)


def rows_of(path: Path, kind: Kind, files: list[RawFile], images_root: Path | None = None) -> Iterator[Seen]:
    """Every row, in order. Raises UserError where a file is damaged."""
    if kind.name == "pairs":
        yield from _pairs(path)
        return
    root = (images_root or (path if path.is_dir() else path.parent)).resolve()
    reader = {"verl": _verl, "swift": _swift, "critiques": _critique}.get(kind.name)
    source = None if reader else load("preference-jsonl" if kind.name == "bench" else kind.name)
    columns = layouts(source) if source else (("data_source", "prompt", "reward_model"),)
    optional = source.optional if source else ("images", "extra_info")
    span = range(sum(file.units for file in files))
    for index, number, raw in read_span(files, span, columns, optional, GIVE):
        row = Seen(files[index].name, number)
        if isinstance(raw, Left):
            _left(row, raw)
        elif reader:
            reader(row, raw, root)
        elif source:
            video = kind.name == "bench" and raw.get("video")
            _release(row, understand(load("mm-rlhf-rewardbench") if video else source, raw), raw, root)
            if kind.name == "bench" and not row.pictures and not row.problems:
                row.remarks.append("no_image")
        yield row


def _left(row: Seen, left: Left) -> None:
    row.id = row.id or str("" if left.id is None else left.id)
    if left.bad:
        row.wrong(left.reason, left.detail)
    else:
        row.remarks.append(left.reason)


def _pairs(path: Path) -> Iterator[Seen]:
    from data_tools.rows.pair_tables import pair_tables

    number = 0
    for table in pair_tables(path):
        for pair in table.to_pylist():
            number += 1
            row = Seen("pairs.parquet", number, pair["id"], pair["source"], label=pair["label"])
            for name in ("question", "response_1", "response_2"):
                row.text(name, pair[name])
            if row.label not in (1, 2):
                row.wrong("bad_label", f"label is {row.label}")
            if pair["response_1"].strip() == pair["response_2"].strip():
                row.wrong("same_responses")
            _open(row, pair["images"], None)
            yield row


def _release(row: Seen, found: Any, raw: dict[str, Any], root: Path) -> None:
    if isinstance(found, Left):
        row.name(found.id if given(found.id) else raw.get("id"))
        _left(row, found)
        return
    row.name(found.id)
    row.text("question", found.question)
    if isinstance(found, Scored):
        row.text("response", found.response)
    else:
        row.source = found.source
        row.text("chosen", found.chosen)
        row.text("rejected", found.rejected)
        if not row.problems and found.chosen.strip() == found.rejected.strip():
            row.remarks.append("same_responses")
    for picture in found.pictures:
        if isinstance(picture, bytes):
            row.pictures.append(picture)
            continue
        if isinstance(picture, NotGiven):
            row.wrong("missing_picture", picture.why)
            continue
        try:
            _open(row, files_of(picture, root), root)
        except MissingPicture as error:
            row.wrong("missing_picture", str(error))
        except OutsideRoot as error:
            row.wrong("picture_outside_root", str(error))


def _open(row: Seen, paths: list[Any], root: Path | None) -> None:
    """root: refuse paths that leave it."""
    for path in paths:
        if not isinstance(path, str):
            row.wrong("bad_picture", f"{type(path).__name__} where a path should be")
            continue
        try:
            file = Path(path) if root is None else resolve(path, root)
            found = file.is_file()
        except MissingPicture:
            found = False
        except OutsideRoot as error:
            row.wrong("picture_outside_root", str(error))
            continue
        except ValueError:
            found = False
        if found:
            row.pictures.append(file)
        else:
            row.wrong("missing_picture", path)


def _critique(row: Seen, raw: dict[str, Any], root: Path) -> None:
    if not isinstance(raw.get("id"), str):
        row.wrong("bad_id", f"id is {type(raw.get('id')).__name__}")
    row.id, row.source = str(raw.get("id")), str(raw.get("model") or "")
    row.text("critique", raw.get("critique"), empty=True)
    if "critique" in row.texts:
        critique = parse(row.texts["critique"])
        if critique.reason:
            row.wrong(critique.reason)
        elif critique.verdict != raw.get("verdict", critique.verdict):
            row.wrong("verdict_differs", f"the row says {raw['verdict']!r}, the critique {critique.verdict}")
        else:
            row.remarks += [problem.value for problem in critique.problems]


def _tags(row: Seen, contents: list[str], pictures: int) -> None:
    tags = sum(text.count(IMAGE_TAG) for text in contents)
    if tags != pictures:
        row.wrong("image_tags_differ", f"{tags} image tags for {pictures} pictures")


def _turns(row: Seen, turns: list[dict[str, Any]]) -> None:
    """Roles are the names; of several turns of a role the later ones have their number."""
    for i, turn in enumerate(turns, 1):
        role = str(turn.get("role"))
        row.text(role if role not in row.texts else f"{role} {i}", turn.get("content"))


def _swift(row: Seen, raw: dict[str, Any], root: Path) -> None:
    row.name(raw.get("id"))
    turns = raw.get("messages")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        row.wrong("bad_messages", "messages must be a list of {role, content}")
        return
    roles = [turn.get("role") for turn in turns]
    talk = roles[1:] if roles[0] == "system" else roles
    if not talk or talk != ["user", "assistant"] * (len(talk) // 2):
        row.wrong("bad_roles", ", ".join(map(str, roles)))
    _turns(row, turns)
    images = raw.get("images") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list):
        row.wrong("bad_picture", f"images is {type(images).__name__}")
        return
    paths = [image.get("path") if isinstance(image, dict) else image for image in images]
    _open(row, [str(root / path) if isinstance(path, str) else path for path in paths], None)
    _tags(row, list(row.texts.values()), len(images))


def _verl(row: Seen, raw: dict[str, Any], root: Path) -> None:
    extra = raw.get("extra_info") or {}
    row.name(extra.get("id"))
    row.source = str(extra.get("source") or raw.get("data_source") or "")
    turns = raw.get("prompt")
    if not isinstance(turns, list) or not turns:
        row.wrong("bad_prompt", "prompt must be a list of {role, content}")
        return
    _turns(row, turns)
    prompts = list(row.texts.values())
    for name in ("question", "response_1", "response_2", "rubric"):
        if extra.get(name) is not None:
            row.text(name, extra[name])
    truth, label = (raw.get("reward_model") or {}).get("ground_truth"), extra.get("label")
    if truth is None:
        row.wrong("no_ground_truth")
    elif label is not None and not same_label(truth, label):
        row.wrong("labels_differ", f"ground truth {truth!r}, extra_info.label {label!r}")
    row.label = label if label in (1, 2) else None
    images = raw.get("images") or []
    for image in images:
        if not isinstance(image, dict):
            row.wrong("missing_picture", f"{type(image).__name__} where an image should be")
        elif isinstance(image.get("bytes"), bytes):
            row.pictures.append(image["bytes"])
        elif image.get("image"):
            _open(row, [str(root / image["image"])], None)
        else:
            row.wrong("picture_verl_cannot_open", 'neither {"bytes"} nor {"image": path}')
    _tags(row, prompts, len(images))


def require_rows(path: Path, kind: Kind, rows: int) -> None:
    if not rows:
        raise UserError(f"{path} ({kind.title}) has no rows")
