"""Finds zeros in place of weights, which a crash may leave in a file whose length and header are right.

Reads a few blocks of some tensors: 3 MB of a checkpoint of 100 GB. A matrix of zeros is suspicious, and damage unless
the zeros begin and end exactly with tensors: what a file system loses begins and ends with pages. So a bias of zeros
passes, and so does a matrix between others that was set to zero on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_MATRICES = 64
"""Matrices checked in one file: the first, the last, and some in between."""
BLOCK = 1024
EDGE = 16
"""Bytes beside a run of zeros that must not all be zero: two numbers of 64 bits, eight of 16."""
LARGE = 64
"""Bytes; smaller tensors and vectors may be zero for good reasons."""


@dataclass(frozen=True)
class Tensor:
    """begin, end: offsets in the file, in bytes."""

    name: str
    begin: int
    end: int
    matrix: bool


def tensors(header: Mapping[str, Any], data: int) -> list[Tensor]:
    """Tensors of a safetensors header, in the order of the file. data: offset of the first. Raises KeyError, TypeError,
    ValueError for an invalid header; tensors must follow each other without a gap."""
    entries = []
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            matrix = sum(side > 1 for side in entry["shape"]) > 1 and end - begin >= LARGE
            entries.append(Tensor(name, data + begin, data + end, matrix))
    entries.sort(key=lambda tensor: (tensor.begin, tensor.end))
    expected = data
    for tensor in entries:
        if tensor.begin != expected or tensor.end < expected:
            raise ValueError(f"{tensor.name} does not begin at the end of the one before")
        expected = tensor.end
    return entries


def find_zeroed(file: Path, entries: Sequence[Tensor]) -> str:
    """Name of a tensor that a crash has left as zeros, "" when there is none. Raises OSError."""
    matrices = [number for number, tensor in enumerate(entries) if tensor.matrix]
    if not matrices:
        return ""
    with file.open("rb", buffering=0) as stream:

        def zeros(begin: int, end: int) -> bool:
            stream.seek(begin)
            return not any(stream.read(end - begin))

        step = max(1, -(-len(matrices) // MAX_MATRICES))
        sample = dict.fromkeys([*matrices[::step], matrices[-1]])
        blank = [number for number in sample if _is_blank(entries[number], zeros)]
        if len(blank) == len(sample) > 1:
            return entries[blank[0]].name
        return next((entries[number].name for number in blank if not _on_purpose(entries, number, zeros)), "")


def _is_blank(tensor: Tensor, zeros: Callable[[int, int], bool]) -> bool:
    size = min(BLOCK, tensor.end - tensor.begin)
    middle = (tensor.begin + tensor.end - size) // 2
    return all(zeros(begin, begin + size) for begin in (tensor.end - size, middle, tensor.begin))


def _on_purpose(entries: Sequence[Tensor], number: int, zeros: Callable[[int, int], bool]) -> bool:
    """Whether the zeros around this tensor begin and end with tensors."""
    first = last = number
    while first > 0 and _is_blank(entries[first - 1], zeros):
        first -= 1
    while last + 1 < len(entries) and _is_blank(entries[last + 1], zeros):
        last += 1
    before, after = entries[first - 1] if first else None, entries[last + 1] if last + 1 < len(entries) else None
    if before is None and after is None:
        return False  # all tensors are zero
    begins = before is None or not zeros(max(before.begin, before.end - EDGE), before.end)
    ends = after is None or not zeros(after.begin, min(after.end, after.begin + EDGE))
    return begins and ends
