"""A stage's folder: which of its files are records of its jobs, and how it is freed for other work."""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from jobs.engine.run_folder.records import read_json

MADE_OF = "made_of.json"
"""The values that the stage's fingerprint is the hash of, so that a plan can name what changed."""
MARK = "fingerprint"
"""What the folder was prepared for."""
RECORDS = (
    "DONE*.json",
    "FAILED.*.json",
    "owner.*.json",
    "progress.*.json",
    MARK,
    MADE_OF,
    "jobs",
    "latest*.log",
    "preflight",
    "ray",
    "nodes",
    ".*",
)
"""What it holds beside its work: records of the jobs that did it."""


def is_record(path: Path) -> bool:
    return any(fnmatchcase(path.name, pattern) for pattern in RECORDS)


def marked(folder: Path) -> str | None:
    """The fingerprint that the folder was prepared for; None when it was not."""
    try:
        return (folder / MARK).read_text()
    except FileNotFoundError:  # also when the folder is being moved aside
        return None


def is_reused(folder: Path) -> bool:
    """Whether it consists of links into another run."""
    return any((read_json(file) or {}).get("reused_from") for file in folder.glob("DONE*.json"))


def move_aside(folder: Path) -> None:
    """Free the folder's name, if it is taken: work gets another name, links to another run's work are removed."""
    if is_reused(folder):
        remove_links(folder)
    if folder.exists():
        aside = named = folder.with_name(f"{folder.name}.{marked(folder) or 'unknown'}")
        number = 1
        while aside.exists():
            number += 1
            aside = named.with_name(f"{named.name}.{number}")
        folder.rename(aside)


def remove_links(folder: Path) -> None:
    """Remove a folder of links; the other run keeps its work. Files that somebody added stay."""
    for entry in list(folder.iterdir()):
        if entry.is_symlink() or (is_record(entry) and entry.is_file()):
            entry.unlink()
    with suppress(OSError):  # not empty
        folder.rmdir()
