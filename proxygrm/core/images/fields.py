"""The images that a row of a published file names, in any of the known ways.

A row that names an image has it, or is counted: an image that is named without bytes or path (a null in a list, an
object without bytes and path, empty bytes) is a `NotGiven`, which every step treats like a path without a file.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from posixpath import normpath
from typing import Any, NamedTuple
from urllib.parse import unquote


class NotGiven(NamedTuple):
    """An image that a row names without its bytes or path."""

    why: str


_MARKS = re.compile(r"(\s*<image>)+")
Named = bytes | str | NotGiven
"""The bytes of an image, its path, or neither."""


class NoImage(ValueError):
    """A value that does not name an image in any known way."""


def images_of(row: Mapping[str, Any], several: str = "images", one: str = "image") -> tuple[Named, ...]:
    """The images of a row: the field `several` where it names any, else `one`. Raises NoImage.

    A row may have both when they agree: `one` is then among `several`. If they differ, nothing is guessed.
    """
    many, single = images_in(row.get(several)), images_in(row.get(one))
    if not many or not single:
        return many or single
    known = {_normalised(image) for image in many}
    if unknown := [image for image in single if _normalised(image) not in known]:
        name = unknown[0] if isinstance(unknown[0], str) else type(unknown[0]).__name__
        raise NoImage(f"`{one}` ({name}) is not among `{several}`; leave one of the two fields out")
    return many


def images_in(value: Any) -> tuple[Named, ...]:
    """Images as releases have them: bytes, a text (`of_text`), {bytes, path} (Hugging Face), a list of these, or
    nothing (null, NaN, an empty text or list). Raises NoImage."""
    if is_gap(value) or value == "":
        return ()
    if isinstance(value, str):
        return (of_text(value),)
    if isinstance(value, bytes):
        return (value or NotGiven("empty bytes"),)
    if isinstance(value, Mapping):
        return (_of_struct(value),)
    if isinstance(value, Iterable):
        return tuple(image for number, item in enumerate(value, 1) for image in _of_item(item, number))
    raise NoImage(f"{type(value).__name__} where an image should be")


_BASE64 = r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\s]{60,}={0,2}\s*$"  # of a PNG, JPEG, GIF or WebP
NO_PATH = rf"^((?i:(data|file):|[a-z][a-z0-9+.-]*://)|{_BASE64})"
"""Regular expression of texts that `of_text` does not read as a path."""


def of_text(text: str) -> Named:
    """A path, also of a `file:` URL, or the bytes of a `data:` URL or plain base64. Raises NoImage for other URLs."""
    if not re.match(NO_PATH, text):
        return text
    if re.match(_BASE64, text):
        text = f"data:;base64,{text}"
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "file":
        path = unquote(rest.removeprefix("//"))
        return path.removeprefix("localhost" * path.startswith("localhost/")) or NotGiven("a file: URL without a path")
    if scheme.lower() != "data":
        raise NoImage(f"images are not fetched from other servers ({text[:200]}); give a path or a data: URL")
    head, comma, body = rest.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise NoImage("a data: URL of an image must be base64")
    try:
        return base64.b64decode("".join(unquote(body).split()), validate=True) or NotGiven("a data: URL without bytes")
    except (binascii.Error, ValueError) as error:
        raise NoImage(f"an image is not base64: {error}") from None


def marked(turn: Any, images: tuple[Named, ...]) -> tuple[Named, ...]:
    """The images of a turn that begins with an `<image>` for each of them: if it begins with more, the others are
    `NotGiven`. (Later in a turn `<image>` may be part of the text.)"""
    marks = _MARKS.match(turn) if isinstance(turn, str) else None
    count = marks.group().count("<image>") if marks else 0
    missing = NotGiven(f"the turn begins with {count} <image> for {len(images)} images")
    return images + (missing,) * (count - len(images))


def is_gap(value: Any) -> bool:
    """Null, or NaN, which pandas writes for null."""
    return value is None or (isinstance(value, float) and value != value)


def _of_item(item: Any, number: int) -> tuple[Named, ...]:
    return images_in(item) or (NotGiven(f"image {number} of the list is {_word(item)}"),)


def _of_struct(value: Mapping[str, Any]) -> Named:
    if "bytes" not in value and "path" not in value:
        raise NoImage(f"an object of {', '.join(map(str, value)) or 'nothing'} where {{bytes, path}} should be")
    data, path = (None if is_gap(value.get(name)) else value.get(name) for name in ("bytes", "path"))
    for entry, kind in ((data, bytes), (path, str)):
        if entry and not isinstance(entry, kind):
            raise NoImage(f"{type(entry).__name__} where the {kind.__name__} of an image should be")
    if path and not data:
        return of_text(path)
    return data or NotGiven(f"bytes are {_word(data)}, path is {_word(path)}")


def _word(value: Any) -> str:
    return "null" if is_gap(value) else "empty"


def _normalised(image: Named) -> Named:
    return normpath(image) if isinstance(image, str) else image
