"""Which images a row of other people's files names, in whatever way. The one place that reads such fields.

A row that names an image has it, or is counted: what is named but not given (a null in a list, an object without
bytes and path, empty bytes) is a `NotGiven`, which every step treats like a path without a file.
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
    """An image that a row names without giving it."""

    why: str


_MARKS = re.compile(r"(\s*<image>)+")
Named = bytes | str | NotGiven
"""The bytes of a file, a path, or neither."""


class NoPicture(ValueError):
    """A value that names no image in any known way."""


def images_of(row: Mapping[str, Any], several: str = "images", one: str = "image") -> tuple[Named, ...]:
    """The images of a row: the field `several` where it names any, else `one`. Raises NoPicture.

    A row may have both when they agree: `one` is then among `several`. Where they differ nothing is guessed.
    """
    many, single = images_in(row.get(several)), images_in(row.get(one))
    if not many or not single:
        return many or single
    known = {_plain(image) for image in many}
    if odd := [image for image in single if _plain(image) not in known]:
        shown = odd[0] if isinstance(odd[0], str) else type(odd[0]).__name__
        raise NoPicture(f"`{one}` ({shown}) is not among `{several}`; leave one of the two fields out")
    return many


def images_in(value: Any) -> tuple[Named, ...]:
    """Images as releases give them: bytes, a text (`of_text`), {bytes, path} (Hugging Face), a list of these, or
    nothing (null, NaN, an empty text or list). Raises NoPicture."""
    if is_gap(value) or value == "":
        return ()
    if isinstance(value, str):
        return (of_text(value),)
    if isinstance(value, bytes):
        return (value or NotGiven("empty bytes"),)
    if isinstance(value, Mapping):
        return (_of_struct(value),)
    if isinstance(value, Iterable):
        return tuple(image for place, item in enumerate(value, 1) for image in _of_item(item, place))
    raise NoPicture(f"{type(value).__name__} where an image should be")


_BASE64 = r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\s]{60,}={0,2}\s*$"  # of a PNG, JPEG, GIF or WebP
NO_PATH = rf"^((?i:(data|file):|[a-z][a-z0-9+.-]*://)|{_BASE64})"
"""What `of_text` does not take for a path, as a regular expression."""


def of_text(text: str) -> Named:
    """A path, which a `file:` URL may stand for, or the bytes that stand there, in a `data:` URL or as base64 alone.
    Raises NoPicture for other URLs."""
    if not re.match(NO_PATH, text):
        return text
    if re.match(_BASE64, text):
        text = f"data:;base64,{text}"
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "file":
        path = unquote(rest.removeprefix("//"))
        return path.removeprefix("localhost" * path.startswith("localhost/")) or NotGiven("a file: URL without a path")
    if scheme.lower() != "data":
        raise NoPicture(f"images are not fetched from other servers ({text[:200]}); give a path or a data: URL")
    head, comma, body = rest.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise NoPicture("a data: URL of an image must be base64")
    try:
        return base64.b64decode("".join(unquote(body).split()), validate=True) or NotGiven("a data: URL without bytes")
    except (binascii.Error, ValueError) as error:
        raise NoPicture(f"an image is not base64: {error}") from None


def marked(turn: Any, images: tuple[Named, ...]) -> tuple[Named, ...]:
    """The images of a turn that begins with an `<image>` for each of them: where it begins with more, the others are
    named but not given. (Further on in a turn `<image>` may be a person's word.)"""
    begins = _MARKS.match(turn) if isinstance(turn, str) else None
    count = begins.group().count("<image>") if begins else 0
    lacking = NotGiven(f"the turn begins with {count} <image> for {len(images)} images")
    return images + (lacking,) * (count - len(images))


def is_gap(value: Any) -> bool:
    """Null, or NaN, as which a table that went through pandas has it."""
    return value is None or (isinstance(value, float) and value != value)


def _of_item(item: Any, place: int) -> tuple[Named, ...]:
    return images_in(item) or (NotGiven(f"image {place} of the list is {_word(item)}"),)


def _of_struct(value: Mapping[str, Any]) -> Named:
    if "bytes" not in value and "path" not in value:
        raise NoPicture(f"an object of {', '.join(map(str, value)) or 'nothing'} where {{bytes, path}} should be")
    data, path = (None if is_gap(value.get(name)) else value.get(name) for name in ("bytes", "path"))
    for given, kind in ((data, bytes), (path, str)):
        if given and not isinstance(given, kind):
            raise NoPicture(f"{type(given).__name__} where the {kind.__name__} of an image should be")
    if path and not data:
        return of_text(path)
    return data or NotGiven(f"bytes are {_word(data)}, path is {_word(path)}")


def _word(value: Any) -> str:
    return "null" if is_gap(value) else "empty"


def _plain(image: Named) -> Named:
    return normpath(image) if isinstance(image, str) else image
