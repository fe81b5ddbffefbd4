"""JSON lines in blocks of whole lines, so that reading a file of any length takes the memory of one block."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from proxygrm.core.files.user_text import check_encoding

_BLOCK = 4 << 20


class Block(NamedTuple):
    first: int  # number of its first line, from 1
    data: bytes  # whole lines with their line ends; the last line of a file may lack one

    def lines(self) -> list[tuple[int, bytes]]:
        """(number, line) of the lines that are not blank."""
        numbered = enumerate(self.data.split(b"\n"), self.first)
        return [(number, line) for number, line in numbered if line.strip()]

    def halves(self) -> tuple[Block, Block] | None:
        """Cut at the end of a line near the middle; None for a single line."""
        cut = self.data.find(b"\n", len(self.data) // 2) + 1 or len(self.data)
        if cut >= len(self.data):
            cut = self.data.rfind(b"\n", 0, len(self.data) // 2) + 1
        if not 0 < cut < len(self.data):
            return None
        first = self.data[:cut]
        return Block(self.first, first), Block(self.first + first.count(b"\n"), self.data[cut:])


def line_blocks(path: Path, span: range, size: int = _BLOCK) -> Iterator[Block]:
    """The lines that start within `span` (bytes), about `size` bytes at a time; a longer line is still read whole.

    Adjacent spans share no line and miss none. A byte order mark at the start of the file is skipped.
    """
    with path.open("rb") as file:
        number = 1
        if span.start:
            remaining = span.start - 1
            while remaining and (chunk := file.read(min(remaining, size))):
                number += chunk.count(b"\n")
                remaining -= len(chunk)
            offset = span.start - 1 + len(line := file.readline())  # starts before the span
            number += line.endswith(b"\n")
        else:
            check_encoding(start := file.read(4), path)
            offset = 3 if start.startswith(codecs.BOM_UTF8) else 0
            file.seek(offset)
        while offset < span.stop:
            data = file.read(min(size, span.stop - offset))
            if not data:
                return
            if not data.endswith(b"\n"):
                data += file.readline()
            yield Block(number, data)
            number += data.count(b"\n")
            offset += len(data)
