"""Atomic files: written beside their target under a hidden name, then renamed.

Standard library only: everything from a data tool to a job's wrapper writes its results through this.
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
"""Errors of a write without space, or without a disk."""

_guards: list[tuple[Path, Callable[[], None]]] = []


@contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `check` is called before this process renames a file into `folder`: it raises to prevent
    that."""
    entry = (folder.absolute(), check)
    _guards.append(entry)
    try:
        yield
    finally:
        _guards.remove(entry)


def may_write(path: Path) -> None:
    """Run the guards of the path's folders, which may raise. Call it right before a rename, or an append."""
    for folder, check in _guards:
        if path.absolute().is_relative_to(folder):
            check()


def sync_file(path: Path, flags: int = 0) -> None:
    """Flush all writes to the file, by any process of this machine, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        with writing(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path, scratch: Path | None = None) -> Iterator[None]:
    """Make the error of a full disk in the block name `path`, not nothing, nor the scratch file for it.

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
            named = Path(os.fsdecode(error.filename))
            if named.is_relative_to(scratch):
                error.filename = str(path / named.relative_to(scratch))
        raise


def beside(path: Path) -> Path:
    """A unique hidden name in the same folder, with a suffix that no reader looks for.

    Random instead of the process id: two threads have the same one, and so may two nodes that share a folder.
    """
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}")


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yields the scratch name to write to (or to link from); a clean end renames it to `path`, an error removes it.

    The content is on the disk before the rename: a power cut leaves no empty file. durable: False for one of very many
    files that their writer syncs together (`proxygrm.core.files.durable`).

    Creates the folder of `path` if needed. Raises OSError, and errors of the block. A device or a pipe is refused: the
    rename would replace it by a file (/dev/null, for every program of the machine).
    """
    if (path.exists() and not (path.is_file() or path.is_dir())) or path.parent == Path("/dev"):
        raise OSError(errno.EINVAL, "a device or a pipe, not a file", str(path))
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
        with suppress(OSError):  # report the first error
            scratch.unlink()
        raise


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove the folder after an error in the block, if it did not exist before and is empty."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """Write several files of `folder` together: yields a scratch folder; a clean end moves its files to `folder`."""
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
    """mode: of a new file, before the umask."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with whole_file(path) as scratch, os.fdopen(os.open(scratch, new, mode), "wb") as file:
        file.write(data)


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Write UTF-8. A lone surrogate, which UTF-8 cannot encode, is written as its escape: the same text in JSON."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), mode)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON: indented, non-ASCII text unescaped."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


class WholeFileWriter(ABC):
    """A writer for a `with` block: its file appears under its name when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def _opened(self, scratch: Path) -> AbstractContextManager[None]:
        """Opens the scratch file for the block; the code after its `yield` completes the file."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            scratch = stack.enter_context(whole_file(self.path))
            stack.enter_context(self._opened(scratch))
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.__exit__(kind, error, tb)
