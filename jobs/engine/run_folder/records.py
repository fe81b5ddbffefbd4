"""JSON records of a run folder. Every write is atomic: a reader sees the old file or the new one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jobs.engine.stage import plain
from proxygrm.core.errors import UserError, unreadable_reason
from proxygrm.core.files import whole_file
from proxygrm.core.files.user_text import read_user_text

WRONG_SHAPE = (KeyError, TypeError, AttributeError)
"""What reading a record raises when it is valid JSON of another shape."""
REMEDIES = {
    "run.json": "a submit with --profile, --run and the run's other options writes it again",
    "submissions.json": "end the jobs of this run (squeue, scancel), then delete it: what is done stays done",
}
READ_AGAIN_S = 0.2


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(plain(value), indent=2))


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write, flush to disk, rename. Others cannot write it, whatever the umask is: the next submit does what run.json
    says."""
    try:
        whole_file.write_text(path, text, mode)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free space or choose another --run folder",
            code="run.cannot-write",
            path=path,
        ) from error


def read_json(path: Path) -> Any | None:
    """The file's content; None when it does not exist. Raises UserError for a torn file: another program wrote it."""
    try:
        return json.loads(read_user_text(path))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise unreadable(path, error) from error


def read_json_again(path: Path, times: int = 5) -> Any | None:
    """As `read_json`; a shared file system may say "stale handle" of a file that is being replaced."""
    for _ in range(times - 1):
        try:
            return read_json(path)
        except UserError:
            time.sleep(READ_AGAIN_S)
    return read_json(path)


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a record that is torn, that another program wrote, or that may not be read."""
    if not (reason := unreadable_reason(error)):
        what = "no command of this suite wrote it" if isinstance(error, WRONG_SHAPE) else "it is not JSON"
        reason = f"{what} ({error}); {REMEDIES.get(path.name, 'delete it to have its stage run again')}"
    return UserError(f"{path} cannot be read: {reason}", code="run.unreadable-record", path=path, name=path.name)


def from_here(path: Path) -> str:
    """A path as a person would type it in the current directory."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) and path != here else path)


def record_folder(run_dir: Path, ablation: str = "") -> Path:
    """The folder with the run.json of the chain, or of one of its ablations."""
    return run_dir / "ablations" / ablation if ablation else run_dir


def record_files(run_dir: Path) -> list[Path]:
    """Every run.json of a run folder, the chain's first; [] when it is not a run folder."""
    chain = record_folder(run_dir) / "run.json"
    return [*([chain] if chain.exists() else []), *sorted(run_dir.glob("ablations/*/run.json"))]
