"""Files that appear whole or not at all: written beside their place under a hidden name, then renamed.

Standard library only and light: everything from a data tool to a job's wrapper writes its results through this.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""What a write meets where there is no room, or no disk."""

_guards: list[tuple[Path, Callable[[], None]]] = []


@contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `check` is called before anything of this process gets its name in `folder`: it raises
    where that must not be."""
    entry = (folder.absolute(), check)
    _guards.append(entry)
    try:
        yield
    finally:
        _guards.remove(entry)


def may_write(path: Path) -> None:
    """Raises what the guards of its folders raise. To be called right before a rename, or an append."""
    for folder, check in _guards:
        if path.absolute().is_relative_to(folder):
            check()


def sync_file(path: Path, flags: int = 0) -> None:
    """What was written to it, by whomever on this machine, is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        with writing(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path, scratch: Path | None = None) -> Iterator[None]:
    """An error of a full disk in the block names `path`, not nothing, nor the scratch file that stands for it.

    open() names its file; write, flush, fsync and close do not, parquet's writer does not, and a copy names its source.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            error.strerror = os.strerror(error.errno)
            if error.filename is None or error.filename2 is not None:
                error.filename = str(path)
                del error.filename2  # None would be printed, too
        if scratch is not None and error.filename is not None:
            found = Path(os.fsdecode(error.filename))
            if found.is_relative_to(scratch):
                error.filename = str(path / found.relative_to(scratch))
        raise


def beside(path: Path) -> Path:
    """A name in the same folder that nobody else has, hidden, and with an ending that no reader looks for.

    Random, not made of the process id: two threads have the same one, and so may two nodes that share a folder.
    """
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}")


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yields the scratch name to write to (or to link from); a clean end renames it, an error removes it.

    It is on the disk before it has its name: not empty after a power cut. durable: False for one of very many, which
    whoever writes them syncs together (`proxygrm.core.files.durable`).

    The folder of `path` is made if it is not there. Raises OSError, and whatever the block raises. A device or a pipe
    is refused: the rename would put a file in its place (/dev/null, for every program of the machine).
    """
    if (path.exists() and not (path.is_file() or path.is_dir())) or path.parent == Path("/dev"):
        raise OSError(errno.EINVAL, "a device or a pipe, and no name for a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = beside(path)
    try:
        with writing(path, scratch):
            yield scratch
            if durable and stat.S_ISREG(scratch.lstat().st_mode):
                sync_file(scratch)
            may_write(path)
            scratch.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            scratch.unlink()
        raise


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """A folder that was not there before the block, and is empty after an error in it, goes again."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):  # it holds something
                folder.rmdir()
        raise


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """Several files of `folder` that appear together: yields a scratch folder; a clean end moves its files there."""
    with removed_if_empty(folder):
        scratch = beside(folder / "files")
        scratch.mkdir(parents=True)
        try:
            with writing(folder, scratch):
                yield scratch
                files = sorted(scratch.iterdir())
                for file in files:
                    if stat.S_ISREG(file.lstat().st_mode):
                        sync_file(file)
                for file in files:
                    may_write(folder / file.name)
                    file.replace(folder / file.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """mode: less the umask, as ever."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with whole_file(path) as scratch, os.fdopen(os.open(scratch, new, mode), "wb") as file:
        file.write(data)


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """In UTF-8. Half a surrogate pair, which UTF-8 cannot hold, becomes its escape: in JSON the same text."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), mode)


def write_json(path: Path, value: Any) -> None:
    """For people too: indented, and every script in its own letters."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


class WholeFileWriter(ABC):
    """A writer for a `with` block: its file appears under its name when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def _opened(self, scratch: Path) -> AbstractContextManager[None]:
        """Opens the scratch file for the block; behind the `yield` stands what a clean end has still to do."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            scratch = stack.enter_context(whole_file(self.path))
            stack.enter_context(self._opened(scratch))
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.__exit__(kind, error, tb)
