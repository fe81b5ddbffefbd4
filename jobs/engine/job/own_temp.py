"""A private temporary folder for each task: libraries put files with predictable names into a shared one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.runtime import held_folder

_LONGEST = 45
"""Longest path of the site's temporary folder: a Unix socket's path has at most 107 characters, and libraries create
sockets below ours."""


@contextmanager
def own_temp() -> Iterator[Path]:
    """Sets $TMPDIR for this process and its children to a new folder that no other user may enter; removed at the end.

    PyTorch, for one, loads compiled code from `torchinductor_USER` in $TMPDIR, whoever wrote it; vLLM and
    multiprocessing leave sockets there, verl and SwanLab files.
    """
    before, base = os.environ.get("TMPDIR"), tempfile.gettempdir()
    where = base if len(base) <= _LONGEST else "/tmp"  # noqa: S108 - a new folder in it, 0700
    folder = held_folder.new("pgjob", Path(where))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = base
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        held_folder.remove(folder)
