"""Sync files, their names and their folders to disk before anything reports them as written."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from proxygrm.core.files.whole_file import beside, may_write, sync_file

MAX_SINGLE_SYNCS = 512
"""For more files, one call for the whole file system is cheaper than one per file."""
_NO_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)
"""Errors of file systems that cannot sync a folder: they order names themselves, or nothing can be done."""


def sync_tree(paths: Iterable[Path]) -> int:
    """Sync files, folders with their content, and the parent folders of both; returns the number of files.

    A file that is on the disk already costs almost nothing, whatever its size. Links are not followed. Raises OSError
    for failed writes (which are often reported only here).
    """
    files: list[Path] = []
    folders: dict[Path, None] = {}
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            for root, _, names in os.walk(path, topdown=False):
                files += [Path(root, name) for name in names]
                folders[Path(root)] = None
        elif path.exists():
            files.append(path)
        else:
            continue
        folders[path.parent] = None
    if len(files) > MAX_SINGLE_SYNCS and folders and _sync_file_system(next(iter(folders))):
        return len(files)
    for file in files:
        with suppress(FileNotFoundError):  # a scratch file of another writer
            if stat.S_ISREG(file.lstat().st_mode):
                sync_file(file)
    for folder in folders:
        with suppress(FileNotFoundError):  # likewise
            sync_folder(folder)
    return len(files)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder, where the file system supports it."""
    try:
        sync_file(folder, os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise


def move_into_place(scratch: Path, target: Path) -> None:
    """Sync a folder that was written beside its target and rename it to `target`, replacing what was there.

    `may_write` is checked right before the rename. `target` is missing only between two renames.
    """
    sync_tree([scratch])
    may_write(target)
    old = beside(target)
    with suppress(FileNotFoundError):
        target.rename(old)
    scratch.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_file_system(folder: Path) -> bool:
    """False if there is no such call. Raises OSError when it failed."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if call(descriptor) == 0:
            return True
        number = ctypes.get_errno()
    finally:
        os.close(descriptor)
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(folder))
