"""Which code runs: the git revision, uncommitted changes without their secrets, versions of packages."""

from __future__ import annotations

import hashlib
import inspect
import os
import subprocess
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from jobs.engine.run_folder import secrecy

CODE = Path(__file__).resolve().parents[3]
REVISION = "REVISION"
"""File in a copy of the code (`jobs.engine.run_folder.snapshot`): the git revision it was copied from."""
PROJECT = ("data_tools", "jobs", "proxygrm", "slurm")
"""This project's packages."""
UNREADABLE = "unreadable"
PACKAGES = (
    "proxygrm-suite",
    "submitit",
    "ray",
    "verl",
    "vllm",
    "ms-swift",
    "torch",
    "transformers",
    "pyarrow",
    "click",
    "swanlab",
)


def own_code(work: Callable[..., Any]) -> str:
    """Content hash of the user's own file with a stage's work, which no revision covers; "" for this project's."""
    while isinstance(work, partial):
        work = work.func
    work = inspect.unwrap(work if hasattr(work, "__code__") else type(work).__call__)
    file = Path(work.__code__.co_filename)
    if file.is_relative_to(CODE) and file.relative_to(CODE).parts[0] in PROJECT:
        return ""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return UNREADABLE


def package_versions() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_revision(root: Path = CODE) -> str | None:
    """Revision of the code, with `-dirty` when it has uncommitted changes; None outside a checkout."""
    if (root / REVISION).is_file():
        return (root / REVISION).read_text().strip()
    return (_git(root, "describe", "--always", "--dirty", "--abbrev=12") or "").strip() or None


def masked_diff(root: Path = CODE) -> tuple[str, int]:
    """Uncommitted changes of tracked files, and how many of their lines are left out because they look like a secret;
    ("", 0) when there are none."""
    return secrecy.masked(_git(root, "diff", "HEAD", "--no-color", "--no-ext-diff") or "")


def _git(root: Path, *arguments: str) -> str | None:
    """Git's output for the repository at `root` itself, not for one around it or one that the shell names (GIT_DIR)."""
    if not (root / ".git").exists():
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
