"""Files that a crash has left with their name and length, and zeros for content, or with half of it.

After a power cut a file system may keep a name and lose what was written last: the file is empty, ends too early, or
is zeros from some page on. Each kind of file has something at its end, and at its beginning, that zeros are not.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

EDGE = 4096
SMALL_JSON = 1 << 20
"""Bytes; larger files of JSON are looked at at both ends alone."""
MOST_FILES = 256
"""Of a folder; of more, so many spread over all."""


def refuse_torn(path: Path) -> None:
    """ValueError, which names the file, for one that is not whole; of a folder, for its first such file.
    Raises OSError."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files[:: max(1, -(-len(files) // MOST_FILES))]:
        if reason := torn(file):
            raise ValueError(f"{file.name} {reason}")


def torn(file: Path) -> str:
    """What is wrong, to be read after the file's name; "" for a whole one, and for kinds that nothing tells of."""
    size = file.stat().st_size
    look = KINDS.get(file.suffix)
    with file.open("rb") as stream:
        head = stream.read(EDGE)
        stream.seek(max(0, size - EDGE))
        tail = stream.read(EDGE)
    if not size:
        return "is empty" if look else ""
    if not any(head) and not any(tail):
        return "holds zeros only"
    return look(file, head, tail) if look else ""


def _text(file: Path, head: bytes, tail: bytes) -> str:
    return "has zeros where text should be" if 0 in head or 0 in tail else ""


def _json(file: Path, head: bytes, tail: bytes) -> str:
    if zeros := _text(file, head, tail):
        return zeros
    if file.stat().st_size <= SMALL_JSON:
        try:
            json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            return f"is not JSON ({error})"
    elif tail.rstrip()[-1:] not in (b"}", b"]"):
        return "ends before its last bracket"
    return ""


def _jsonl(file: Path, head: bytes, tail: bytes) -> str:
    return _text(file, head, tail) or ("" if tail.endswith(b"\n") else "ends in the middle of a line")


def _parquet(file: Path, head: bytes, tail: bytes) -> str:
    """A file without any of its marks is not a torn one: whoever reads it says that it is something else."""
    first, last = head.startswith(b"PAR1"), tail.endswith(b"PAR1")
    if first != last or not any(head):
        return f"has no parquet mark at its {'end' if first else 'beginning'}"
    if not first:
        return ""
    footer = int.from_bytes(tail[-8:-4], "little")
    if footer + 12 > file.stat().st_size:
        return "is shorter than its parquet footer says"
    return "" if any(head[4:]) else "has zeros where its first rows should be"


def _torch(file: Path, head: bytes, tail: bytes) -> str:
    """An archive of torch.save: its list of contents stands at the end. (Before torch 1.6 it was a plain pickle.)"""
    if head.startswith(b"PK"):
        return "" if zipfile.is_zipfile(file) else "ends before its list of contents"
    return "" if head[:1] == b"\x80" and tail.endswith(b".") else "is no archive of torch.save"


def _image(end: bytes) -> Callable[[Path, bytes, bytes], str]:
    return lambda file, head, tail: "" if end in tail else "ends before the image does"


KINDS: dict[str, Callable[[Path, bytes, bytes], str]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".txt": _text,
    ".jinja": _text,
    ".html": _text,
    ".parquet": _parquet,
    ".pt": _torch,
    ".pth": _torch,
    ".png": _image(b"IEND\xaeB`\x82"),
}


def checkpoint_of_training(folder: Path) -> str:
    """Why a training must not resume from this folder, "" where it may. Names, states and lists are looked at."""
    if not folder.is_dir():
        return "is not there"
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name)
            try:
                reason = torn(file)
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
            if reason:
                return f"{file.relative_to(folder)} {reason}"
    return ""
