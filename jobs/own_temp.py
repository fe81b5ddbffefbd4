"""A temporary folder of each task's own: libraries put files with names that others can guess into a shared one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 45
"""Of the site's temporary folder: a Unix socket's path ends at 107 characters, and libraries make them below ours."""


def prefix() -> str:
    """Of this machine's folders: a temporary folder may be shared, and locks need not be seen from elsewhere."""
    return f"pgjob-{zlib.crc32(socket.gethostname().encode()):08x}-"


@contextmanager
def own_temp() -> Iterator[Path]:
    """For this process and all it starts: $TMPDIR is a new folder that nobody else may enter, removed at the end.

    PyTorch, for one, loads compiled code from `torchinductor_USER` in $TMPDIR, whoever made that; vLLM and
    multiprocessing leave sockets there, and verl and SwanLab files. A task that is killed leaves its folder, which the
    next one of the same user on the node removes: it is locked by its task as long as that lives.
    """
    before, base = os.environ.get("TMPDIR"), tempfile.gettempdir()
    where = Path(base if len(base) <= _LONGEST else "/tmp")  # noqa: S108 - mkdtemp: a random name, 0700
    _remove_left_ones(where)
    folder, lock = _new(where)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = base
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new(where: Path) -> tuple[Path, int]:
    """The folder and its lock, an open file that programs started from here do not inherit."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix(), dir=where))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # no locks on this file system: then nobody removes what is left
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # else another task took it for a left one before it was locked
            return folder, lock
        os.close(lock)


def _remove_left_ones(where: Path) -> None:
    for folder in where.glob(f"{prefix()}*"):
        with contextlib.suppress(OSError):  # somebody else's, one in use, or gone by now
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
