"""The code as it was at submission: jobs run a copy, so that an edit or a `git pull` while they wait changes nothing.

A copy is named by its content and is kept in the run folder, so all jobs of a submission share one, as do later
submissions of the same code. It holds this project's packages only; libraries come from the environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from jobs.engine.run_folder.code_version import CODE, PROJECT, REVISION, git_revision
from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import why_untrusted
from proxygrm.core.files.whole_file import beside
from slurm import private


def take(run_dir: Path) -> Path:
    """Copy the code into the run folder, unless the same code is there already. Returns the copy's folder.

    Raises UserError when it cannot be read or written.
    """
    files = _files()
    target = run_dir / "code" / _name(files)
    try:
        private.make(target.parent, 0o700)
    except OSError as error:
        raise UserError(
            f"cannot make {target.parent}: {error.strerror}; choose another --run",
            code="run.cannot-write",
            path=target.parent,
        ) from error
    if target.is_dir():
        _refuse_altered(target)
        return target
    scratch = beside(target)
    try:
        private.make(scratch)
        for source, content in files.items():
            _write(CODE / source, scratch, scratch / source, content)
        (scratch / REVISION).write_text(f"{git_revision() or 'unknown'}\n")
        (scratch / REVISION).chmod(0o644)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # another submit of the same code may have been faster
                raise
    except OSError as error:
        problem = f"cannot copy the code to {target}: {error.strerror}"
        raise UserError(
            f"{problem}; free space or choose another --run", code="run.cannot-write", path=target
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def planned(run_dir: Path) -> Path:
    """Where `take` would put the code as it is now. Writes nothing."""
    return run_dir / "code" / _name(_files())


def _files() -> dict[str, bytes]:
    """The files of the packages by path, in order; without hidden files (editors' leftovers) and compiled ones."""
    files = {}
    for package in PROJECT:
        for root, folders, names in os.walk(CODE / package):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    path = Path(root, name)
                    files[str(path.relative_to(CODE))] = path.read_bytes()
    return files


def _name(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _refuse_altered(copy: Path) -> None:
    """A copy that other users own or may write may have been changed."""
    for root, _, names in os.walk(copy):
        for path in (Path(root), *(Path(root, name) for name in names)):
            if reason := why_untrusted(path):
                raise UserError(
                    f"{reason}, and jobs run the code in it: rm -r {copy}, and submit again",
                    code="run.unsafe-copy",
                    path=copy,
                )


def _write(source: Path, copy: Path, target: Path, content: bytes) -> None:
    """Copies the time and the compiled files too, which Python recognises by that time: the job compiles nothing."""
    private.make(target.parent, below=copy)
    target.write_bytes(content)
    _like(source, target)
    if target.suffix == ".py":
        for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"):
            private.make(target.parent / "__pycache__", below=copy)
            shutil.copyfile(compiled, target.parent / "__pycache__" / compiled.name)
            _like(compiled, target.parent / "__pycache__" / compiled.name)


def _like(source: Path, target: Path) -> None:
    """Copy times and mode, without write permission for others."""
    shutil.copystat(source, target)
    target.chmod(target.stat().st_mode & 0o755)
