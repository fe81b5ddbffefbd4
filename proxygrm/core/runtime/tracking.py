"""SwanLab without ceremony: offline into the output folder, online when there is a key, and SwanLab's own switch
(SWANLAB_MODE, or `mode` in a file that it reads) wins over both."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text

PROJECT = "proxygrm"
KEY_VARIABLE = "SWANLAB_API_KEY"
KEY_FILE_VARIABLE = "SWANLAB_API_KEY_FILE"
MODE_VARIABLE = "SWANLAB_MODE"
Mode = Literal["online", "offline", "local", "disabled"]


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
        key = read_user_text(path).strip()
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
    """A SwanLab run: files under `out/swanlog`, and in the cloud when a key is there (see `choose_mode`).

    Needs no account and no terminal. An exception inside marks the run as crashed and goes on up.
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
    """What this run is recorded as; logs in when that is online. UserError for a mode that SwanLab has not.

    The user's own mode counts, except that one who asks for "online" without a key is recorded offline, which is said.
    """
    asked = asked_mode()
    if asked not in (None, "online"):
        return asked
    if log_in(folder):
        return "online"
    if asked and not api_key():
        print(
            f"SwanLab is to record online, but {KEY_VARIABLE} is not set; recording in {folder} only", file=sys.stderr
        )
    return "offline"


def asked_mode() -> Mode | None:
    """The mode that SwanLab's own switches ask for; None when nobody has set one."""
    said = os.environ.get(MODE_VARIABLE, "")
    said = said[1:-1] if len(said) > 1 and said[0] == said[-1] and said[0] in "\"'" else said  # as SwanLab reads it
    known = (*get_args(Mode), "cloud")
    if not said.strip():
        os.environ.pop(MODE_VARIABLE, None)  # SwanLab takes an empty one for a mode
    elif said not in known:
        raise UserError(f"{MODE_VARIABLE} is {said!r}; SwanLab knows {', '.join(known)}")
    import swanlab
    from pydantic import ValidationError

    try:
        settings = swanlab.Settings()
    except (ValidationError, ValueError) as error:
        what = " ".join(str(error).split())[:300]
        raise UserError(f"SwanLab's own settings (SWANLAB_* variables, swanlab.yaml, .env) are wrong: {what}") from None
    return settings.mode if "mode" in settings.model_fields_set else None


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
