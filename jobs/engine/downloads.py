"""The models and data sets that a chain takes from outside: whether each is here, and the command that fetches it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jobs.engine.stage import Given, Stage, hub_revision, plain
from proxygrm.core.checkpoints.code import LoadableCheckpoint
from proxygrm.core.files.below import files_below

State = Literal["here", "not usable", "missing"]
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Download:
    """One input from outside."""

    name: str
    """As the settings name it: a path, or a hub name."""
    kind: Literal["model", "data"]
    stages: tuple[str, ...]
    """Those that need it; of the cells of an ablation, their batch."""
    state: State
    where: str
    """Its path here, or where jobs look for it."""
    size: int | None
    """Bytes of what is here; None where nothing is."""
    revision: str
    """Of the hub's repository, where the cache knows it; "" where nobody does."""
    problem: str
    """Why it cannot be used; "" where it can."""
    command: str
    """What fetches it; "" where it can be used, or nobody knows how it is made."""

    def to_json(self) -> dict[str, Any]:
        return dict(plain(self))


def needed(stages: Iterable[Stage]) -> list[Download]:
    """Every `Given` of the stages, each once, in the chain's order."""
    rows: dict[Path, Download] = {}
    for stage in stages:
        for need in stage.needs.values():
            if not isinstance(need, Given):
                continue
            path, name = need.resolve(), stage.batch or stage.name
            row = rows[path] if path in rows else _download(need, path)
            rows[path] = replace(row, stages=tuple(dict.fromkeys([*row.stages, name])))
    return list(rows.values())


def size_of(path: Path) -> int:
    """Bytes of a file, or of a folder's files with the targets of links (the hub's cache is full of them); a file with
    several names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for file in files_below(path):
        try:
            status = file.stat()
        except OSError:  # a link to nothing
            continue
        sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _download(need: Given, path: Path) -> Download:
    problem = ""
    try:
        need.check(path)
    except Exception as error:
        problem = " ".join(str(error).split())
    model = isinstance(need.check, LoadableCheckpoint)
    here = path.exists()
    own = need.local().exists()  # a folder of that name, not the hub's cache
    revision = hub_revision(need.path) if model and not own else ""
    return Download(
        name=need.path,
        kind="model" if model else "data",
        stages=(),
        state="missing" if not here else "not usable" if problem else "here",
        where=str(path),
        size=size_of(path) if here else None,
        revision=revision,
        problem=problem,
        command=_command(need, model, own, revision) if problem else "",
    )


def _command(need: Given, model: bool, own: bool, revision: str) -> str:
    if model:
        if own or not _HUB_NAME.fullmatch(need.path):
            return ""
        return f"hf download {need.path}{f' --revision {revision}' if revision else ''}"
    here = need.folder in ("", str(Path.cwd()))
    return need.made_by.format(path=shlex.quote(need.path if here else str(need.local())))
