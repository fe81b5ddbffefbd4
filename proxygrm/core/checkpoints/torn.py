"""Finds files that a crash has left with their name and length, but with zeros or half of their content.

After a power cut a file system may keep a name and lose the last writes: the file is empty, ends too early, or is zeros
from some page on. Each kind of file can be recognised by its beginning and its end.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from proxygrm.core.files.below import files_below

EDGE = 4096
SMALL_JSON = 1 << 20
"""Bytes; of larger JSON files only both ends are checked."""
MAX_FILES = 256
"""Files checked in a folder; of more files, a sample of this size."""


def refuse_torn(path: Path) -> None:
    """Raises ValueError, with its name, for a torn file, or the first torn file of a folder. Raises OSError.

    What another process removes from the folder meanwhile is left out.
    """
    if not path.is_dir():
        _refuse(path)
        return
    files = sorted(file for file in files_below(path) if file.is_file())
    for file in files[:: max(1, -(-len(files) // MAX_FILES))]:
        with contextlib.suppress(FileNotFoundError):
            _refuse(file)


def _refuse(file: Path) -> None:
    if reason := torn(file):
        raise ValueError(f"{file.name} {reason}")


def torn(file: Path) -> str:
    """The problem, to be read after the file's name; "" for an intact file, and for unknown kinds."""
    size = file.stat().st_size
    check = KINDS.get(file.suffix)
    with file.open("rb") as stream:
        head = stream.read(EDGE)
        stream.seek(max(0, size - EDGE))
        tail = stream.read(EDGE)
    if not size:
        return "is empty" if check else ""
    if not any(head) and not any(tail):
        return "has only zeros"
    return check(file, head, tail) if check else ""


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
    """A file with neither of the two marks is not torn: it is not parquet at all, which its reader reports."""
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
    """An archive of torch.save: its list of contents is at the end. (Before torch 1.6 it was a plain pickle.)"""
    if head.startswith(b"PK"):
        return "" if zipfile.is_zipfile(file) else "ends before its list of contents"
    return "" if head[:1] == b"\x80" and tail.endswith(b".") else "is not an archive of torch.save"


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


def why_torn(folder: Path) -> str:
    """Why a training must not resume from this folder, "" if it may. Checks every file with `torn`."""
    if not folder.is_dir():
        return "does not exist"
    for file in files_below(folder):
        try:
            reason = torn(file)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        if reason:
            return f"{file.relative_to(folder)} {reason}"
    return ""
