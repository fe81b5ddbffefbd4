"""What a job runs as code is its user's alone: the pickles it loads, the copy of the code, checkpoints it resumes.

Of a run folder, `RUN/code` and every `jobs` folder are 0700 and the pickles 0600 whatever the umask is. The folders
that lead there (RUN, RUN/STAGE) may be read by others and not written: who may write to one puts another in its place.
What lies above RUN is the site's (`proxygrm doctor` names it). POSIX access lists need no look of their own: while one
lets anybody else write, its mask shows as the group's write bit.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import OTHERS_WRITE, name_of

UNPICKLED = frozenset({".pt", ".pth", ".bin", ".pkl", ".ckpt", ".distcp"})
"""What trainers load without looking, so that it may run anything."""
FIND_UNSAFE = f'\\( ! -uid "$EUID" -o -perm /{OTHERS_WRITE:o} \\) -printf "%p (%M %u:%g)" -quit'


def make(path: Path, mode: int = 0o755, below: Path | None = None) -> None:
    """The folder, and those between it and `below`, without write permission for others; one that is there stays as
    it is, except that a mode of 0700 holds then, too. Raises OSError."""
    if below is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    for folder in _between(path, below or path):
        folder.mkdir(mode=0o755 if folder != path else mode, exist_ok=True)
    if mode == 0o700 and stat.S_IMODE(path.stat().st_mode) & 0o077 and path.stat().st_uid == os.geteuid():
        path.chmod(0o700)


def make_jobs(run_dir: Path, folder: Path) -> None:
    """The folder of a submission's pickles. Raises UserError."""
    try:
        make(folder, 0o700, below=run_dir)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; free space or choose another --run folder") from error


def tighten(folder: Path) -> None:
    """Pickles and scripts that submitit wrote by the umask; its folder is private already."""
    for path in (*folder.glob("*.pkl"), *folder.glob("*.sh")):
        with suppress(FileNotFoundError):  # replaced by a job that is requeued just now
            if path.stat().st_mode & 0o177:
                path.chmod(0o600)


def pickles_are_mine() -> None:
    """What submitit writes after this call (a result, a job to be requeued) is 0600. Last thing in a job: it holds for
    whatever else the process writes."""
    if "SUBMITIT_EXECUTOR" in os.environ:
        os.umask(0o077)


def not_for_others_to_write() -> None:
    """From here on, of this process and those it starts."""
    os.umask(os.umask(OTHERS_WRITE) | OTHERS_WRITE)


def problem(path: Path) -> str:
    """Why a job must not run what this file or folder holds; "" when it may, or when it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    if found.st_uid != os.geteuid():
        return f"{path} belongs to {name_of(found.st_uid)}"
    if found.st_mode & OTHERS_WRITE:
        return f"{path} may be written by others ({stat.filemode(found.st_mode)})"
    return ""


def refuse_shared(run_dir: Path, folders: Iterable[Path]) -> None:
    """Raise UserError where somebody else owns, or may write, a folder on the way from `run_dir` to one of these, or
    what was asked for."""
    paths = dict.fromkeys(path for folder in folders for path in [run_dir, *_between(folder, run_dir)])
    paths |= dict.fromkeys(run_dir.glob("run.json"))  # says which profile, whose shell lines jobs run
    found = {path: why for path in paths if path.name != "jobs" and (why := problem(path))}
    if not found:
        return
    foreign = [why for why in found.values() if "belongs to" in why]
    remedy = "use a run folder of your own" if foreign else f"chmod go-w {shlex.join(map(str, found))}"
    raise UserError(
        f"{(foreign or list(found.values()))[0]}: they could run code in your jobs, which load their pickles there; "
        f"{remedy}"
    )


def refuse_planted(folder: Path) -> None:
    """Raise UserError for a checkpoint (or a folder on the way to one) that others own or may write, before a training
    resumes from it. Names alone are read of what is no checkpoint."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "jobs"]  # a batch script's guard looks there
        loaded = [Path(root, name) for name in names if Path(name).suffix in UNPICKLED]
        if not loaded:
            continue
        way = [folder, *_between(Path(root), folder)]
        if why := next((why for path in [*way, *loaded] if (why := problem(path))), ""):
            raise UserError(
                f"{why}, and resuming from it runs what it holds as code; if you trust it: chmod -R go-w {folder} (and "
                "chown), else remove it: the stage begins anew"
            )


def guard_lines(run_dir: Path, jobs: Path, code: Path) -> list[str]:
    """Shell lines at the head of a batch script, so also of every requeue: nothing is loaded or imported yet."""
    way = shlex.join(str(path) for path in [run_dir, *_between(jobs, run_dir), code.parent])
    pickles, copy = shlex.quote(str(jobs)), shlex.quote(str(code))
    return [
        "umask go-w",
        f'unsafe() {{ find -H "$@" {FIND_UNSAFE}; }}',
        "pickle=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}_submitted.pkl",
        f"found=$([ ! -d {copy} ] || unsafe {way} -maxdepth 0) &&",
        f'found=$found$(unsafe {pickles} -ignore_readdir_race -maxdepth 1 -name "$pickle") &&',
        f"found=$found$([ ! -d {copy} ] || unsafe {copy} -ignore_readdir_race) ||",
        'found="what it cannot look at $found"',
        '[ -z "$found" ] || { echo "refused to load $found: this job runs it as code, and another user owns it or may '
        'write to it; see what is in it, chmod go-w it or remove it, and submit again" >&2; exit 2; }',
    ]


def _between(path: Path, top: Path) -> Iterator[Path]:
    """The folders below `top` that lead to `path`, and `path`."""
    if path == top:
        yield path
        return
    parts = path.relative_to(top).parts
    for number in range(1, len(parts) + 1):
        yield top.joinpath(*parts[:number])
