"""What a source module says: the layout it reads, and what each of its rows is.

A source knows nothing of files, pictures on disk, shards or counting: it turns one raw row (a dict, from parquet or
JSON) into a `Found` pair, a `Scored` single response, or the reason (`Left`) why the row is neither. The driver in
`data_tools.ingest` does the rest. Texts may be anything in `Found`: the driver checks that they are texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from proxygrm.core.images.fields import Named


class Frames(NamedTuple):
    """A video: a folder of frames, of which `wanted` are taken at equal distances."""

    path: str
    wanted: int


Picture = Named | Frames  # the bytes of a file, a path below the pictures' root, or one that is named but not given


class Found(NamedTuple):
    """One preference, before its pictures are stored and its responses arranged."""

    id: Any  # the release's own id; None: the row number stands in
    question: Any
    chosen: Any
    rejected: Any
    pictures: Sequence[Picture]
    source: str = ""  # "": the driver's name for the source
    license: str = ""  # "": the source's
    category: str = ""
    group: str = ""
    note: str = ""  # something to count about a row that is kept


class Scored(NamedTuple):
    """One response with a score. The best and the worst of one (question, pictures, `scale`) become a pair."""

    id: Any
    question: Any
    response: Any
    score: float
    scale: str  # scores compare only within one
    pictures: Sequence[Picture]
    note: str = ""


class Left(NamedTuple):
    """Why a row is no pair: `bad` rows are broken, the others are whole but express no preference."""

    reason: str
    detail: str = ""
    bad: bool = True
    id: Any = None


@dataclass(frozen=True)
class Source:
    name: str  # as typed: "rlaif-v"
    columns: tuple[str, ...] | tuple[tuple[str, ...], ...]  # a parquet file has all of these, or of one of these
    read: Callable[[dict[str, Any]], Found | Scored | Left]
    give: str  # what PATH is, for help and errors
    license: str = "unknown"
    benchmark: bool = False  # every row counts: duplicates stay, missing pictures are refused
    needs_picture: bool = False  # a row without one lacks it, like a path without a file
    optional: tuple[str, ...] = field(default=())  # columns read when they are there

    @property
    def slug(self) -> str:
        return self.name.replace("-", "_")


def layouts(source: Source) -> tuple[tuple[str, ...], ...]:
    """The column sets of which a parquet file must have one in full."""
    first = source.columns[0]
    return (source.columns,) if isinstance(first, str) else source.columns  # type: ignore[return-value]


def slug(text: str) -> str:
    """Letters, digits and underscores: "RLAIF-V" -> "rlaif_v"; "" when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


IMAGE_TAG = "<image>"
_TAG = re.compile(re.escape(IMAGE_TAG))
_QUOTES = ("``", "''", '""', "“”", "‘’")
_OWN_LINE = re.compile(rf"(?m)^[ \t]*(?:{_TAG.pattern}[ \t]*)+\r?$")


def without_image_tags(text: Any, images: int) -> tuple[Any, str]:
    """(a released turn without the `<image>` tags that mark the places of the row's images, a note for the account).

    Only for turns whose layout puts those marks there. Of more tags than images, those alone on their lines are the
    marks if there are just as many, else the first ones; the others, and a tag in quotes or backticks, are people's
    words. They stay, and `proxygrm.critique.prompts.inert` defuses them wherever a text enters a prompt. A line that
    held nothing but marks goes with its end; elsewhere the line ends and, but for the blanks beside a mark, the blanks
    stay.
    """
    if not isinstance(text, str):
        return text, ""
    tags = [tag for tag in _TAG.finditer(text) if _around(text, tag) not in _QUOTES]
    marks = tags[:images]
    if len(tags) > images:
        alone = [(line.start(), line.end()) for line in _OWN_LINE.finditer(text)]
        on_own = [tag for tag in tags if any(start <= tag.start() < end for start, end in alone)]
        marks = on_own if len(on_own) == images else marks
    for mark in reversed(marks):
        text = _cut(text, mark.start(), mark.end())
    return text, "" if len(tags) in (0, images) else "image_tags_differ"


def _around(text: str, tag: re.Match[str]) -> str:
    """The characters right before and after it."""
    return text[max(tag.start() - 1, 0) : tag.start()] + text[tag.end() : tag.end() + 1]


def _cut(text: str, start: int, end: int) -> str:
    """The text without a mark, and without the blanks on one side of it."""
    before, after = text[:start], text[end:]
    left, right = before.rstrip(" \t"), after.lstrip(" \t")
    begins, ends = not left or left.endswith("\n"), not right or right.startswith(("\n", "\r\n"))
    if begins and ends:  # the line was its own
        return left + right.lstrip("\r")[1:] if right else left.removesuffix("\n").removesuffix("\r")
    if begins or ends:
        return left + right
    return before + (right if left != before else after)
