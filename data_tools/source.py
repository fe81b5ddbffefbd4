"""What a source module says: the layout it reads, and what each of its rows is.

A source knows nothing of files, pictures on disk, shards or counting: it turns one raw row (a dict, from parquet or
JSON) into a `Found` pair, a `Scored` single response, or the reason (`Left`) why the row is neither. The driver in
`data_tools.ingest` does the rest. Texts may be anything in `Found`: the driver checks that they are texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Frames(NamedTuple):
    """A video: a folder of frames, of which `wanted` are taken at equal distances."""

    path: str
    wanted: int


Picture = bytes | str | Frames  # the bytes of a file, or a path below the pictures' root


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


class Scored(NamedTuple):
    """One response with a score. The best and the worst of one (question, pictures, `scale`) become a pair."""

    id: Any
    question: Any
    response: Any
    score: float
    scale: str  # scores compare only within one
    pictures: Sequence[Picture]


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
    needs_picture: bool = False
    optional: tuple[str, ...] = field(default=())  # columns read when they are there

    @property
    def slug(self) -> str:
        return self.name.replace("-", "_")

    def ingest(self, path: Path, out: Path, **options: Any) -> dict[str, Any]:
        """Read `path` into the pairs folder `out` in this process; options and report: `data_tools.ingest.ingest`."""
        from data_tools.ingest import ingest

        return ingest(self, path, out, **options)


def layouts(source: Source) -> tuple[tuple[str, ...], ...]:
    """The column sets of which a parquet file must have one in full."""
    first = source.columns[0]
    return (source.columns,) if isinstance(first, str) else source.columns  # type: ignore[return-value]


def pictures_in(value: Any) -> tuple[Picture, ...]:
    """Pictures as releases give them: bytes, a path, {bytes, path} (Hugging Face), a list of these, or nothing."""
    if value is None or value == "" or value == b"":
        return ()
    if isinstance(value, (bytes, str)):
        return (value,)
    if isinstance(value, dict):
        return pictures_in(value.get("path") if value.get("bytes") is None else value["bytes"])
    if isinstance(value, Iterable):
        return tuple(picture for item in value for picture in pictures_in(item))
    raise NoPicture(f"{type(value).__name__} where a picture should be")


class NoPicture(ValueError):
    """A value that names no picture in any known way."""


def slug(text: str) -> str:
    """Letters, digits and underscores: "RLAIF-V" -> "rlaif_v"; "" when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


_IMAGE_TAG = re.compile(r"<image>[ \t]*\n?")


def without_image_tags(text: Any) -> Any:
    """A released turn without the `<image>` that marks the place of a picture we carry beside the text.

    Only for turns whose layout puts that mark there. `<image>` in other people's words stays what it is in a pair;
    `proxygrm.prompts.inert` defuses it wherever a text enters a prompt.
    """
    return _IMAGE_TAG.sub("", text).strip("\n") if isinstance(text, str) else text
