"""A temporary folder of each task's own: libraries put files with names that others can guess into a shared one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.runtime import held_folder

_LONGEST = 45
"""Of the site's temporary folder: a Unix socket's path ends at 107 characters, and libraries make them below ours."""


@contextmanager
def own_temp() -> Iterator[Path]:
    """For this process and all it starts: $TMPDIR is a new folder that nobody else may enter, removed at the end.

    PyTorch, for one, loads compiled code from `torchinductor_USER` in $TMPDIR, whoever made that; vLLM and
    multiprocessing leave sockets there, and verl and SwanLab files.
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
