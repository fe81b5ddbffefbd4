"""Private folders on a node, each held by a living process; the next process removes those of killed ones."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import zlib
from pathlib import Path

_locks: dict[Path, int] = {}
"""Folder -> its lock: an open file, which programs started from here do not inherit."""


def prefix(kind: str) -> str:
    """Of this machine's folders: a folder for temporary files may be shared with other machines, which may not see its
    locks."""
    return f"{kind}-{zlib.crc32(socket.gethostname().encode()):08x}-"


def new(kind: str, where: Path) -> Path:
    """A new folder (0700, with a random name) in `where`; those of this user's ended processes are removed."""
    _remove_abandoned(kind, where)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix(kind), dir=where))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # as below, a moment earlier
            continue
        with contextlib.suppress(OSError):  # no locks on this file system: then an abandoned folder stays
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # else another process took it for an abandoned one before it was locked
            _locks[folder] = lock
            return folder
        os.close(lock)


def remove(folder: Path) -> None:
    """The folder and its contents."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


def _remove_abandoned(kind: str, where: Path) -> None:
    for folder in where.glob(f"{prefix(kind)}*"):
        with contextlib.suppress(OSError):  # another user's, in use, or removed meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
