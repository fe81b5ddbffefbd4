"""What a source module defines: the layout that it reads, and how to read a row.

A source does not deal with files, images on disk, shards or counting: it turns one raw row (a dict, from parquet or
JSON) into a `RawPair`, a `ScoredResponse`, or the reason (`Excluded`) why the row is neither. `data_tools.ingest` does
the rest. Texts of a `RawPair` may be of any type: ingestion checks that they are strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from proxygrm.core.images.fields import Named


class Frames(NamedTuple):
    """A video: a folder of frames, of which `wanted` equally spaced ones are used."""

    path: str
    wanted: int


ImageRef = Named | Frames  # the bytes of a file, a path below the images root, or an image that is named but not given


class RawPair(NamedTuple):
    """One preference, before its images are stored and its responses put in order."""

    id: Any  # the id in the release; None: the row number is used
    question: Any
    chosen: Any
    rejected: Any
    images: Sequence[ImageRef]
    source: str = ""  # "": the name of the source
    license: str = ""  # "": that of the source
    category: str = ""
    group: str = ""
    note: str = ""  # counted in the report if the row is kept
    part: str = ""  # of a row that is several pairs: which of them, after a slash in its id


class ScoredResponse(NamedTuple):
    """One response with a score. The best and the worst of one (question, images, `scale`) become a pair."""

    id: Any
    question: Any
    response: Any
    score: float
    scale: str  # scores are comparable only within one scale
    images: Sequence[ImageRef]
    note: str = ""


class Excluded(NamedTuple):
    """Why a row is not a pair: `bad` rows are broken, the others are intact but express no preference."""

    reason: str
    detail: str = ""
    bad: bool = True
    id: Any = None


FromFiles = Callable[[Path, Path, Sequence[str]], Sequence[Mapping[str, Any]]]
"""(the path that is ingested, the root of its images, names of its files) -> for each file the fields that its rows
have in addition. Raises UserError if the release is incomplete."""


@dataclass(frozen=True)
class Source:
    name: str  # on the command line: "rlaif-v"
    columns: tuple[str, ...] | tuple[tuple[str, ...], ...]  # a parquet file has all of these, or of one of these groups
    read: Callable[[dict[str, Any]], RawPair | ScoredResponse | Excluded]
    expected: str  # the expected input, for errors
    license: str = "unknown"
    benchmark: bool = False  # every row counts: duplicates are kept, missing images are an error
    needs_image: bool = False  # a row without an image counts as one with a missing image
    optional: tuple[str, ...] = field(default=())  # columns that are read if they exist
    expand: Callable[[dict[str, Any]], Sequence[dict[str, Any]]] | None = None  # a raw row that is several pairs
    files: str = ""  # of a folder, only the one file whose name fits this pattern is read
    several: bool = False  # `files` may fit several files, and all of them are read
    of_file: FromFiles | None = None  # what the rows of each file have beside their own fields
    options: tuple[tuple[str, str], ...] = ()  # name and value of each option that this reader was made with

    @property
    def slug(self) -> str:
        return self.name.replace("-", "_")


def layouts(source: Source) -> tuple[tuple[str, ...], ...]:
    """The groups of columns, one of which a parquet file must have completely."""
    first = source.columns[0]
    return (source.columns,) if isinstance(first, str) else source.columns  # type: ignore[return-value]


def unknown_layout(row: Mapping[str, Any], wanted: str) -> Excluded:
    """A row without the fields that its source reads; the detail shows the row. wanted: these fields."""
    shown = ", ".join(f"{name}: {_shortened(value)}" for name, value in list(row.items())[:12] if name[:1] != "_")
    return Excluded("unknown_layout", f"no {wanted}; the row has {shown or 'no fields'}", id=row.get("id"))


def _shortened(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = " ".join(str(value)[:80].split())
    return text if len(text) <= 30 else f"{text[:30]}..."


def slug(text: str) -> str:
    """Lower-case letters, digits and underscores: "RLAIF-V" -> "rlaif_v"; "" if there are none."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


IMAGE_TAG = "<image>"
_TAG = re.compile(re.escape(IMAGE_TAG))
_QUOTES = ("``", "''", '""', "“”", "‘’")
_OWN_LINE = re.compile(rf"(?m)^[ \t]*(?:{_TAG.pattern}[ \t]*)+\r?$")


def without_image_tags(text: Any, images: int) -> tuple[Any, str]:
    """(a turn without the `<image>` tags that mark the positions of the row's images, a note for the report).

    Only for turns of releases that use such marks. If there are more tags than images, those alone on their lines are
    the marks if their number is right, otherwise the first ones; the others, and a tag in quotes or backticks, belong
    to the text. They are kept, and `proxygrm.critique.prompts.inert` defuses them in prompts. A line with nothing but
    marks is removed; all other line ends stay, and all blanks except those beside a mark.
    """
    if not isinstance(text, str):
        return text, ""
    tags = [tag for tag in _TAG.finditer(text) if _neighbours(text, tag) not in _QUOTES]
    marks = tags[:images]
    if len(tags) > images:
        lines = [(line.start(), line.end()) for line in _OWN_LINE.finditer(text)]
        on_own_line = [tag for tag in tags if any(start <= tag.start() < end for start, end in lines)]
        marks = on_own_line if len(on_own_line) == images else marks
    for mark in reversed(marks):
        text = _cut(text, mark.start(), mark.end())
    return text, "" if len(tags) in (0, images) else "image_tags_differ"


def _neighbours(text: str, tag: re.Match[str]) -> str:
    """The characters before and after the tag."""
    return text[max(tag.start() - 1, 0) : tag.start()] + text[tag.end() : tag.end() + 1]


def _cut(text: str, start: int, end: int) -> str:
    """The text without a mark and the blanks on one side of it."""
    before, after = text[:start], text[end:]
    left, right = before.rstrip(" \t"), after.lstrip(" \t")
    starts_line, ends_line = not left or left.endswith("\n"), not right or right.startswith(("\n", "\r\n"))
    if starts_line and ends_line:  # remove the line
        return left + right.lstrip("\r")[1:] if right else left.removesuffix("\n").removesuffix("\r")
    if starts_line or ends_line:
        return left + right
    return before + (right if left != before else after)
