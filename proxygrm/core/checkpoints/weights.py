"""Zeros in the place of weights: what a crash leaves of a file whose length and header are as they should be.

Reads a few blocks of some tensors, not the file: 3 MB of a checkpoint of 100 GB. A matrix that is zero as a whole is
suspicious, and damage unless the zeros begin and end exactly with tensors: what a file system has lost begins and ends
with pages. So a bias of zeros passes, and so does a matrix that somebody has set to zero, between others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_MATRICES = 64
"""Looked at in one file: the first, the last, and some between."""
BLOCK = 1024
EDGE = 16
"""Bytes beside a stretch of zeros that must hold something: two numbers of 64 bits, eight of 16."""
LARGE = 64
"""Bytes; smaller tensors and vectors may be zero for good reasons."""


@dataclass(frozen=True)
class Tensor:
    """begin, end: in the file, in bytes."""

    name: str
    begin: int
    end: int
    matrix: bool


def tensors(header: Mapping[str, Any], data: int) -> list[Tensor]:
    """Of a safetensors header, in the order of the file. data: where they begin. Raises KeyError, TypeError, ValueError
    for what is no such header; tensors must follow each other without a gap."""
    found = []
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            matrix = sum(side > 1 for side in entry["shape"]) > 1 and end - begin >= LARGE
            found.append(Tensor(name, data + begin, data + end, matrix))
    found.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = data
    for tensor in found:
        if tensor.begin != at or tensor.end < at:
            raise ValueError(f"{tensor.name} does not begin where the one before it ends")
        at = tensor.end
    return found


def lost(file: Path, found: Sequence[Tensor]) -> str:
    """Name of a tensor in whose place a crash has left zeros, "" when there is none. Raises OSError."""
    matrices = [number for number, tensor in enumerate(found) if tensor.matrix]
    if not matrices:
        return ""
    with file.open("rb", buffering=0) as stream:

        def zeros(begin: int, end: int) -> bool:
            stream.seek(begin)
            return not any(stream.read(end - begin))

        step = max(1, -(-len(matrices) // MOST_MATRICES))
        chosen = dict.fromkeys([*matrices[::step], matrices[-1]])
        blank = [number for number in chosen if _blank(found[number], zeros)]
        if len(blank) == len(chosen) > 1:
            return found[blank[0]].name
        return next((found[number].name for number in blank if not _by_design(found, number, zeros)), "")


def _blank(tensor: Tensor, zeros: Callable[[int, int], bool]) -> bool:
    size = min(BLOCK, tensor.end - tensor.begin)
    middle = (tensor.begin + tensor.end - size) // 2
    return all(zeros(at, at + size) for at in (tensor.end - size, middle, tensor.begin))


def _by_design(found: Sequence[Tensor], number: int, zeros: Callable[[int, int], bool]) -> bool:
    """Whether the zeros around this tensor begin and end with tensors."""
    first = last = number
    while first > 0 and _blank(found[first - 1], zeros):
        first -= 1
    while last + 1 < len(found) and _blank(found[last + 1], zeros):
        last += 1
    before, after = found[first - 1] if first else None, found[last + 1] if last + 1 < len(found) else None
    if before is None and after is None:
        return False  # nothing but zeros
    begins = before is None or not zeros(max(before.begin, before.end - EDGE), before.end)
    ends = after is None or not zeros(after.begin, min(after.end, after.begin + EDGE))
    return begins and ends
