"""Private folders on a node, each as long as a process lives; of one that was killed the next process removes it."""

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
    """Of this machine's folders: one for temporary files may be shared, and locks need not be seen from elsewhere."""
    return f"{kind}-{zlib.crc32(socket.gethostname().encode()):08x}-"


def new(kind: str, where: Path) -> Path:
    """A new folder (0700, its name is random) in `where`; those of ended processes of this user go."""
    _remove_left_ones(kind, where)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix(kind), dir=where))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # no locks on this file system: then nobody removes what is left
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # else another process took it for a left one before it was locked
            _locks[folder] = lock
            return folder
        os.close(lock)


def remove(folder: Path) -> None:
    """With all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


def _remove_left_ones(kind: str, where: Path) -> None:
    for folder in where.glob(f"{prefix(kind)}*"):
        with contextlib.suppress(OSError):  # somebody else's, one in use, or gone by now
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
