"""Only its user can write what a job runs as code: the pickles it loads, the copy of the code, checkpoints it resumes.

Of a run folder, `RUN/code` and every `jobs` folder are 0700 and the pickles 0600 whatever the umask is. The folders
above them (RUN, RUN/STAGE) may be read by others but not written: whoever may write to one can replace what is in it.
The folders above RUN belong to the site (`proxygrm doctor` checks them). POSIX access lists need no check of their own:
while one lets another user write, its mask shows as the group's write bit.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import OTHERS_WRITE, why_untrusted

UNPICKLED = frozenset({".pt", ".pth", ".bin", ".pkl", ".ckpt", ".distcp"})
"""Suffixes of files that trainers unpickle, so that they may run any code."""
FIND_UNSAFE = f'\\( ! -uid "$EUID" -o -perm /{OTHERS_WRITE:o} \\) -printf "%p (%M %u:%g)" -quit'


def make(path: Path, mode: int = 0o755, below: Path | None = None) -> None:
    """Make the folder, and those between it and `below`, without write permission for others. An existing one keeps its
    mode, unless `mode` is 0700. Raises OSError."""
    if below is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    for folder in between(path, below or path):
        folder.mkdir(mode=0o755 if folder != path else mode, exist_ok=True)
    if mode == 0o700 and stat.S_IMODE(path.stat().st_mode) & 0o077 and path.stat().st_uid == os.geteuid():
        path.chmod(0o700)


def make_jobs(run_dir: Path, folder: Path) -> None:
    """Make the folder of a submission's pickles. Raises UserError."""
    try:
        make(folder, 0o700, below=run_dir)
    except OSError as error:
        raise UserError(
            f"cannot make {folder}: {error.strerror}; free space or choose another --run folder",
            code="run.folder-not-writable",
            path=folder,
            reason=error.strerror,
        ) from error


def tighten(folder: Path) -> None:
    """Make the pickles and scripts 0600 that submitit wrote by the umask; their folder is private already."""
    for path in (*folder.glob("*.pkl"), *folder.glob("*.sh")):
        with suppress(FileNotFoundError):  # replaced by a job that is being requeued
            if path.stat().st_mode & 0o177:
                path.chmod(0o600)


def keep_pickles_private() -> None:
    """What submitit writes after this call (a result, a job to be requeued) is 0600. Call it last in a job: it changes
    the umask of the process."""
    if "SUBMITIT_EXECUTOR" in os.environ:
        os.umask(0o077)


def deny_write_to_others() -> None:
    """Set the umask, of this process and those it starts, so that other users cannot write new files."""
    os.umask(os.umask(OTHERS_WRITE) | OTHERS_WRITE)


def refuse_shared(run_dir: Path, folders: Iterable[Path]) -> None:
    """Raise UserError where another user owns, or may write, a folder on the path from `run_dir` to one of these, or
    run.json."""
    paths = dict.fromkeys(path for folder in folders for path in [run_dir, *between(folder, run_dir)])
    paths |= dict.fromkeys(run_dir.glob("run.json"))  # it names the profile, whose shell lines jobs run
    problems = {path: reason for path in paths if path.name != "jobs" and (reason := why_untrusted(path))}
    if not problems:
        return
    foreign = [reason for reason in problems.values() if "belongs to" in reason]
    remedy = "use a run folder of your own" if foreign else f"chmod go-w {shlex.join(map(str, problems))}"
    raise UserError(
        f"{(foreign or list(problems.values()))[0]}: they could run code in your jobs, which load their pickles there; "
        f"{remedy}",
        code="run.foreign-folder" if foreign else "run.writable-by-others",
        paths=list(problems),
    )


def refuse_planted(folder: Path) -> None:
    """Raise UserError for a checkpoint (or a folder on the path to one) that others own or may write, before a training
    resumes from it. Of other files only the names are read."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "jobs"]  # a batch script's guard looks there
        loaded = [Path(root, name) for name in names if Path(name).suffix in UNPICKLED]
        if not loaded:
            continue
        for path in [folder, *between(Path(root), folder), *loaded]:
            if reason := why_untrusted(path):
                raise UserError(
                    f"{reason}, and resuming from it runs its content as code; if you trust it: "
                    f"chmod -R go-w {folder} (and chown), else remove it: the stage starts from the beginning",
                    code="run.untrusted-checkpoint",
                    path=path,
                )


def guard_lines(run_dir: Path, jobs: Path, code: Path) -> list[str]:
    """Shell lines at the start of a batch script, so also of every requeue: nothing is loaded or imported before."""
    path = shlex.join(str(path) for path in [run_dir, *between(jobs, run_dir), code.parent])
    pickles, copy = shlex.quote(str(jobs)), shlex.quote(str(code))
    return [
        "umask go-w",
        f'unsafe() {{ find -H "$@" {FIND_UNSAFE}; }}',
        "pickle=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}_submitted.pkl",
        f"found=$([ ! -d {copy} ] || unsafe {path} -maxdepth 0) &&",
        f'found=$found$(unsafe {pickles} -ignore_readdir_race -maxdepth 1 -name "$pickle") &&',
        f"found=$found$([ ! -d {copy} ] || unsafe {copy} -ignore_readdir_race) ||",
        'found="what it cannot check $found"',
        '[ -z "$found" ] || { echo "refused to load $found: this job runs it as code, and another user owns it or may '
        'write to it; inspect it, chmod go-w it or remove it, and submit again" >&2; exit 2; }',
    ]


def between(path: Path, top: Path) -> Iterator[Path]:
    """The folders between `top` and `path`, and `path`."""
    if path == top:
        yield path
        return
    parts = path.relative_to(top).parts
    for number in range(1, len(parts) + 1):
        yield top.joinpath(*parts[:number])
