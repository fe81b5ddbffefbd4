"""SwanLab: offline into the output folder, online when there is a key. SwanLab's own setting (SWANLAB_MODE, or `mode`
in a file that it reads) wins over both."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text

log = logging.getLogger(__name__)

PROJECT = "proxygrm"
KEY_VARIABLE = "SWANLAB_API_KEY"
KEY_FILE_VARIABLE = "SWANLAB_API_KEY_FILE"
MODE_VARIABLE = "SWANLAB_MODE"
Mode = Literal["online", "offline", "local", "disabled"]


def api_key() -> str | None:
    """From SWANLAB_API_KEY, or from the file that SWANLAB_API_KEY_FILE names; None means offline.

    UserError when the file is missing, empty, or readable by others. The key itself is never shown.
    """
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        return key
    name = os.environ.get(KEY_FILE_VARIABLE, "").strip()
    if not name:
        return None
    path = Path(name).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = read_user_text(path).strip()
    except OSError as error:
        raise UserError(
            f"{KEY_FILE_VARIABLE} names {path}, which cannot be read: {error.strerror}",
            code="tracking.key-file-unreadable",
            path=path,
        ) from error
    if mode & 0o077:
        raise UserError(
            f"other users can read {path} (mode {mode:o}); run: chmod 600 {path}",
            code="tracking.key-file-not-private",
            path=path,
        )
    if not key:
        raise UserError(
            f"{path} is empty; put the SwanLab key in it, or unset {KEY_FILE_VARIABLE}",
            code="tracking.key-file-empty",
            path=path,
        )
    return key


class Tracker:
    """Records numbers by name, one step at a time."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)


@contextmanager
def track(run_name: str, out: Path, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """A SwanLab run: files under `out/swanlog`, and in the cloud when there is a key (see `choose_mode`).

    Works without an account and without a terminal. An exception inside marks the run as crashed and is raised again.
    """
    import swanlab

    folder = out / "swanlog"
    folder.mkdir(parents=True, exist_ok=True)
    mode = choose_mode(folder)
    run = swanlab.init(
        project=PROJECT,
        name=run_name,
        log_dir=str(folder),
        mode=mode,
        config=dict(config),
        settings=swanlab.Settings(interactive=False),
    )
    try:
        yield Tracker(run)
    except BaseException as error:
        swanlab.finish(state="crashed", error=type(error).__name__)
        raise
    swanlab.finish()


def choose_mode(folder: Path) -> Mode:
    """The mode in which this run is recorded; logs in for "online". UserError for a mode that SwanLab does not know.

    The user's own mode counts, but "online" without a key becomes "offline", with a warning.
    """
    mode = requested_mode()
    if mode not in (None, "online"):
        return mode
    if log_in(folder):
        return "online"
    if mode and not api_key():
        log.warning("SwanLab's mode is online, but %s is not set; recording in %s only", KEY_VARIABLE, folder)
    return "offline"


def requested_mode() -> Mode | None:
    """The mode in SwanLab's own settings; None when none is set."""
    value = os.environ.get(MODE_VARIABLE, "")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]  # as SwanLab reads it
    known = [*get_args(Mode), "cloud"]
    if not value.strip():
        os.environ.pop(MODE_VARIABLE, None)  # SwanLab takes an empty one for a mode
    elif value not in known:
        raise UserError(
            f"{MODE_VARIABLE} is {value!r}; SwanLab knows {', '.join(known)}",
            code="tracking.unknown-mode",
            value=value,
            known=known,
        )
    import swanlab
    from pydantic import ValidationError

    try:
        settings = swanlab.Settings()
    except (ValidationError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"SwanLab's own settings (SWANLAB_* variables, swanlab.yaml, .env) are wrong: {reason}",
            code="tracking.wrong-settings",
            reason=reason,
        ) from None
    return settings.mode if "mode" in settings.model_fields_set else None


def log_in(folder: Path) -> bool:
    """Whether the login worked. Compute nodes often have no internet: a failed login is a warning and costs only the
    online copy."""
    import swanlab

    key = api_key()
    if not key:
        return False
    try:
        swanlab.login(api_key=key, save=False)
    except Exception as error:
        log.warning("SwanLab cannot be reached (%s); recording in %s only", type(error).__name__, folder)
        return False
    return True
