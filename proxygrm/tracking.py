"""SwanLab without ceremony: offline into the output folder, online when there is a key."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxygrm.errors import UserError

PROJECT = "proxygrm"
KEY_VARIABLE = "SWANLAB_API_KEY"
KEY_FILE_VARIABLE = "SWANLAB_API_KEY_FILE"


def api_key() -> str | None:
    """From SWANLAB_API_KEY, or from the file that SWANLAB_API_KEY_FILE names; None means offline.

    UserError when the file is not there, is empty, or can be read by others. The key itself is never shown.
    """
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        return key
    name = os.environ.get(KEY_FILE_VARIABLE, "").strip()
    if not name:
        return None
    path = Path(name).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = path.read_text().strip()
    except OSError as error:
        raise UserError(f"{KEY_FILE_VARIABLE} names {path}, which cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise UserError(f"others can read {path} (mode {mode:o}); run: chmod 600 {path}")
    if not key:
        raise UserError(f"{path} is empty; put the SwanLab key in it, or unset {KEY_FILE_VARIABLE}")
    return key


class Tracker:
    """Numbers by name, a step at a time."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)


@contextmanager
def track(run_name: str, out: Path, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """A SwanLab run: files under `out/swanlog`, and in the cloud when a key is there (see `api_key`).

    Needs no account and no terminal. An exception inside marks the run as crashed and goes on up.
    """
    import swanlab

    folder = out / "swanlog"
    folder.mkdir(parents=True, exist_ok=True)
    online = log_in(folder)
    run = swanlab.init(
        project=PROJECT,
        name=run_name,
        log_dir=str(folder),
        mode="online" if online else "offline",
        config=dict(config),
        settings=swanlab.Settings(interactive=False),
    )
    try:
        yield Tracker(run)
    except BaseException as error:
        swanlab.finish(state="crashed", error=type(error).__name__)
        raise
    swanlab.finish()


def log_in(folder: Path) -> bool:
    """Compute nodes often have no way out: a login that fails is said, and costs only the online copy."""
    import swanlab

    key = api_key()
    if not key:
        return False
    try:
        swanlab.login(api_key=key, save=False)
    except Exception as error:
        print(f"SwanLab is out of reach ({type(error).__name__}); recording in {folder} only", file=sys.stderr)
        return False
    return True
