"""A private temporary folder for each task: libraries put files with predictable names into a shared one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.runtime import held_folder
from proxygrm.core.runtime.compiled_code import compiled_in

_LONGEST = 45
"""Longest path of the site's temporary folder: a Unix socket's path has at most 107 characters, and libraries create
sockets below ours."""


@contextmanager
def own_temp() -> Iterator[Path]:
    """Sets $TMPDIR for this process and its children to a new folder that no other user may enter; removed at the end.

    PyTorch keeps compiled code there, vLLM and multiprocessing leave sockets, verl and SwanLab files.
    """
    before, base = dict(os.environ), tempfile.gettempdir()
    where = base if len(base) <= _LONGEST else "/tmp"  # noqa: S108 - a new folder in it, 0700
    folder = held_folder.new("pgjob", Path(where))
    own = {"TMPDIR": str(folder), **compiled_in(folder)}
    tempfile.tempdir = str(folder)
    os.environ.update(own)
    try:
        yield folder
    finally:
        tempfile.tempdir = base
        for name in own:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in own if name in before})
        held_folder.remove(folder)
