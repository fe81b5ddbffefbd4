"""The nouns of a chain: a stage, what it needs, what it makes, where it runs."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.torn import refuse_torn
from proxygrm.core.errors import UserError
from slurm.profile import Profile
from slurm.sbatch import Resources

Check = Callable[[Path], None]
"""Raises (any exception with a readable message) when what stands at the path cannot be used."""


def exists(path: Path) -> None:
    """The weakest check: something is there, it is not empty, and no crash has torn it."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"{path} is an empty folder")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file")
    try:
        refuse_torn(path)
    except ValueError as error:
        raise UserError(f"{path} is not whole: {error}") from error


@dataclass(frozen=True)
class Artifact:
    """Something a stage leaves behind, by its path inside the stage's folder, and the proof that it is whole."""

    path: str
    check: Check = exists


@dataclass(frozen=True)
class Given:
    """Something that must stand before the chain starts: a data set, a checkpoint."""

    path: str
    check: Check = exists
    folder: str = ""
    """Where a relative path begins; "" for the current directory."""

    def resolve(self) -> Path:
        """The path itself, or the local snapshot of a hub name such as Qwen/Qwen2.5-VL-7B-Instruct."""
        path = Path(self.folder, Path(self.path).expanduser()).absolute()
        return path if path.exists() else hub_snapshot(self.path) or path

    def identity(self) -> str:
        """What a fingerprint remembers of it: names and sizes of its files, and the content of small ones.

        Sizes rather than dates, so that a copy of the same data keeps finished work valid.
        """
        root = self.resolve()
        return _identity(root, root.stat().st_mtime_ns) if root.exists() else f"missing:{self.path}"


def hub_snapshot(name: str) -> Path | None:
    """Where the hub's cache on this file system holds a model (layout of huggingface_hub), or None."""
    home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub")
    folder = Path(home).expanduser() / f"models--{name.replace('/', '--')}"
    try:
        return folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
    except OSError:
        return None


@lru_cache(maxsize=64)
def _identity(root: Path, modified_ns: int) -> str:
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(root) if file != root else ''}\0{size}\0".encode())
        if size < 1 << 20 and (file == root or file.parent == root):  # deeper: pictures, named by their content
            digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Output:
    """One artifact of another stage; written `stage / "path"`."""

    stage: Stage
    path: str


@dataclass(frozen=True)
class Stage:
    """One job (or job array) of a chain.

    name: also the stage's folder inside the run folder.
    run: what happens in the job; called on every node with a StageRun, knows no scheduler.
    needs: by the name `run` uses; the edges of the job graph come from here and from nowhere else.
    makes: checked after `run` and again whenever somebody plans.
    config: a frozen dataclass; a change of it makes the stage, and all that needs it, due again.
    array: number of elements when the stage is a job array.
    validate: raises UserError when its settings do not fit the nodes it asks for, which a plan asks before it sends.
    batch: stages of one batch are sent together, as the elements of one job array; throttle: so many at a time.
    """

    name: str
    run: Callable[[StageRun], None]
    makes: tuple[Artifact, ...]
    on: Resources
    config: Any = None
    needs: Mapping[str, Given | Output] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    array: int = 1
    max_requeues: int = 5
    batch: str = ""
    throttle: int = 0
    validate: Callable[[Stage, Profile], None] | None = None

    def __truediv__(self, path: str) -> Output:
        if all(a.path != path for a in self.makes):
            known = ", ".join(a.path for a in self.makes)
            raise UserError(f"stage {self.name} makes no {path!r}; it makes {known}")
        return Output(self, path)

    def upstream(self) -> tuple[Stage, ...]:
        """The stages it waits for, each once, in the order of `needs`."""
        found = {need.stage.name: need.stage for need in self.needs.values() if isinstance(need, Output)}
        return tuple(found.values())

    def fingerprint(self, known: dict[str, str] | None = None) -> str:
        """Hash of the name, the configuration, the prompts and everything upstream (DESIGN: done means proven).

        known: by name, what was computed just now; stages of one chain share most of their upstream.
        """
        known = {} if known is None else known
        if self.name not in known:
            text = json.dumps(self.facts(known), sort_keys=True)
            known[self.name] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return known[self.name]

    def facts(self, known: dict[str, str] | None = None) -> dict[str, Any]:
        """What the fingerprint is the hash of, as JSON values. known: as of `fingerprint`."""
        from proxygrm.critique.prompts import prompt_hash

        known = {} if known is None else known
        needs = {
            label: need.identity() if isinstance(need, Given) else f"{need.stage.fingerprint(known)}/{need.path}"
            for label, need in self.needs.items()
        }
        return {
            "name": self.name,
            "config": plain(self.config),
            "array": self.array,
            "needs": needs,
            "prompts": {name: prompt_hash(name) for name in self.prompts},
        }

    def input_paths(self, run_dir: Path) -> dict[str, Path]:
        return {
            label: need.resolve() if isinstance(need, Given) else run_dir / need.stage.name / need.path
            for label, need in self.needs.items()
        }


@dataclass(frozen=True)
class StageRun:
    """What a stage's function is handed inside its job."""

    stage: Stage
    run_dir: Path
    profile: Any
    inputs: Mapping[str, Path]
    progress: Callable[[int, int, str], None]
    cell: int = 0
    rank: int = 0
    nodes: int = 1

    @property
    def out(self) -> Path:
        """The stage's own folder; everything it writes goes here."""
        return self.run_dir / self.stage.name

    @property
    def config(self) -> Any:
        return self.stage.config


def plain(value: Any) -> Any:
    """Settings as JSON values (frozen dataclasses become dicts, tuples become lists, paths become text)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def fingerprints(stages: Iterable[Stage]) -> dict[str, str]:
    """Of every stage of one chain, by name."""
    known: dict[str, str] = {}
    return {stage.name: stage.fingerprint(known) for stage in stages}


def from_folder(stages: Iterable[Stage], folder: str) -> list[Stage]:
    """The same chain, its relative paths beginning in the folder. stages: each after those it needs."""
    found: dict[str, Stage] = {}
    for stage in stages:
        needs = {
            label: replace(need, folder=folder)
            if isinstance(need, Given)
            else Output(found.get(need.stage.name, need.stage), need.path)
            for label, need in stage.needs.items()
        }
        found[stage.name] = replace(stage, needs=needs)
    return list(found.values())


def closure(stages: list[Stage], wanted: list[str]) -> list[Stage]:
    """The wanted stages and everything upstream of them, in the chain's own order."""
    by_name = {stage.name: stage for stage in stages}
    keep: set[str] = set()

    def visit(stage: Stage) -> None:
        if stage.name not in keep:
            keep.add(stage.name)
            for parent in stage.upstream():
                visit(parent)

    for name in wanted:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(list(by_name)[:20])}"
            raise UserError(f"no stage {name!r} in this chain; {hint}")
        visit(by_name[name])
    return [stage for stage in stages if stage.name in keep]
