"""The nursery while a training lasts: Ray's workers are forked from it, because on a small machine the start of a
training is almost all imports."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.rl.overrides import job_environment


@contextmanager
def nursery(out: Path) -> Iterator[Path]:
    """Its socket, which exists once everything is imported, after about 10 s; until then workers start more slowly.

    Start it with Ray and end it after Ray. The socket's path is short, in a folder that only the owner may enter.
    """
    folder = Path(tempfile.mkdtemp(prefix="pgnursery-"))
    command = [sys.executable, "-m", "proxygrm.rl.cpu.nursery", "serve", str(folder / "socket")]
    environment = {**os.environ, **job_environment(device="cpu", output=out)}
    try:
        with ChildProcess(command, out / "nursery.log", environment=environment, grace_s=10.0):
            yield folder / "socket"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
