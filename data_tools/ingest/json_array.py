"""Reads the elements of a file that is one JSON array, without holding the whole file in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError

_CHUNK = 1 << 20
_SPACE = " \t\r\n"


def array_elements(file: Path) -> Iterator[tuple[int, int, Any]]:
    """(number, start in characters, value) of the elements of an array, read in chunks: one element in memory.

    Raises UserError where the text is not an array, because nothing after that point can be trusted.
    """
    decode = json.JSONDecoder().raw_decode
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        text, before, at, number = opened.read(_CHUNK), 0, 0, 0  # before: characters already discarded
        at = _skip(text, at) + 1  # the opening bracket
        while True:
            at = _skip(text, at)
            if at < len(text) and text[at] == "]":
                rest = text[at + 1 :] + opened.read(_CHUNK)
                if rest.strip():
                    raise UserError(
                        f"{file} continues after its array ends ({rest.strip()[:40]!r}); give one array per file",
                        code="file.not-one-array", path=file,
                    )  # fmt: skip
                return
            try:
                value, end = decode(text, at)
                # A value at the end may continue in the next chunk: it is complete once the comma or bracket is read.
                end = _skip(text, end)
                if end >= len(text):
                    raise ValueError("the file ends inside the array")
            except (ValueError, RecursionError) as error:
                more = opened.read(max(_CHUNK, len(text) - at))
                if not more:
                    raise UserError(
                        f"{file} is cut off or not JSON in element {number + 1}, "
                        f"character {before + at} ({error}); download it again",
                        code="file.damaged", path=file, element=number + 1, character=before + at,
                    ) from error  # fmt: skip
                before, text, at = before + at, text[at:] + more, 0
                continue
            number += 1
            yield number, before + at, value
            if text[end] not in ",]":
                raise UserError(
                    f"{file} is not a JSON array: no comma after element {number}; download it again",
                    code="file.damaged", path=file, element=number,
                )  # fmt: skip
            at = end + (text[end] == ",")
            if at > _CHUNK:
                before, text, at = before + at, text[at:], 0


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
