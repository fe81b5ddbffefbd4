"""The nouns of a chain: a stage, what it needs, what it makes, where it runs, what it is made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxygrm.core.checkpoints.torn import refuse_torn
from proxygrm.core.errors import UserError
from proxygrm.core.files.below import files_below
from proxygrm.core.settings import AFTERWARDS, did_you_mean
from slurm.profile import Profile
from slurm.sbatch import Resources

if TYPE_CHECKING:
    from jobs.engine.space.amounts import Needs, Space

Check = Callable[[Path], None]
"""Raises (any exception with a readable message) when what is at the path cannot be used."""


def exists(path: Path) -> None:
    """The weakest check: the path exists, is not empty, and no crash has torn it."""
    if not path.exists():
        raise UserError(f"{path} does not exist", code="file.missing", path=path)
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"{path} is an empty folder", code="file.empty", path=path)
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file", code="file.empty", path=path)
    try:
        refuse_torn(path)
    except ValueError as error:
        raise UserError(f"{path} is incomplete: {error}", code="file.torn", path=path) from error


@dataclass(frozen=True)
class Artifact:
    """An output of a stage, by its path inside the stage's folder, with the check that proves it complete."""

    path: str
    check: Check = exists


@dataclass(frozen=True)
class Given:
    """An input that must exist before the chain starts: a data set, a checkpoint."""

    path: str
    check: Check = exists
    folder: str = ""
    """What a relative path is relative to; "" for the current directory."""
    made_by: str = ""
    """Command that makes it, where there is one; {path} stands for its path."""

    def local(self) -> Path:
        """The path itself, whether it exists or not."""
        return Path(self.folder, Path(self.path).expanduser()).absolute()

    def resolve(self) -> Path:
        """The path itself, or the local snapshot of a hub name such as Qwen/Qwen2.5-VL-7B-Instruct."""
        path = self.local()
        return path if path.exists() else hub_snapshot(self.path) or path

    def identity(self) -> str:
        """Its part of a fingerprint: names and sizes of its files, and the content of small ones.

        Sizes rather than dates, so that a copy of the same data keeps finished work valid.
        """
        root = self.resolve()
        return _identity(root, root.stat().st_mtime_ns) if root.exists() else f"missing:{self.path}"

    def counts(self, folder: Path) -> bool:
        """Whether what is written into that folder changes the identity."""
        return folder.resolve().is_relative_to(self.resolve().resolve())


def hub_snapshot(name: str) -> Path | None:
    """The folder of a model in the hub's cache on this file system (layout of huggingface_hub), or None."""
    revision = hub_revision(name)
    return _hub_folder(name) / "snapshots" / revision if revision else None


def hub_revision(name: str) -> str:
    """The commit of a model's main branch as the hub's cache knows it; "" where it knows none."""
    try:
        return (_hub_folder(name) / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        return ""


def _hub_folder(name: str) -> Path:
    home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub")
    return Path(home).expanduser() / f"models--{name.replace('/', '--')}"


@lru_cache(maxsize=64)
def _identity(root: Path, modified_ns: int) -> str:
    files = sorted(file for file in files_below(root) if file == root or _is_file(file))
    digest = hashlib.sha256()
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another process has renamed or removed it meanwhile
            size = file.stat().st_size
            # deeper: images, named by their content
            content = file.read_bytes() if size < 1 << 20 and (file == root or file.parent == root) else b""
            digest.update(f"{file.relative_to(root) if file != root else ''}\0{size}\0".encode() + content)
    return digest.hexdigest()


def _is_file(path: Path) -> bool:
    """A link into a folder that may not be read is not: what cannot be read, the stage cannot take."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class Output:
    """One artifact of another stage, written `stage / "path"`."""

    stage: Stage
    path: str


@dataclass(frozen=True)
class Stage:
    """One job (or job array) of a chain.

    name: also the stage's folder inside the run folder.
    run: what happens in the job; called on every node with a StageRun, knows no scheduler.
    needs: by the name `run` uses; the edges of the job graph come from here and from nowhere else.
    makes: checked after `run` and again by every plan.
    config: a frozen dataclass; when it changes, the stage and all that needs it run again.
    array: number of elements when the stage is a job array.
    validate: raises UserError when its settings do not fit the nodes it asks for; called before anything is sent.
    batch: stages of one batch are sent together, as the elements of one job array; throttle: how many run at a time.
    writes: a folder outside the run folder that it writes to as well; a superseded attempt writes nothing there either.
    leftovers: patterns of files and folders in its own one that only serve to resume it: of no use once it is done.
    disk: the space it will take, for the forecast of a plan (`jobs.engine.space.amounts`).
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
    writes: Path | None = None
    leftovers: tuple[str, ...] = ()
    disk: Callable[[Stage, Needs], Space] | None = None

    def __truediv__(self, path: str) -> Output:
        if all(a.path != path for a in self.makes):
            known = ", ".join(a.path for a in self.makes)
            raise UserError(
                f"stage {self.name} makes no {path!r}; it makes {known}",
                code="stage.unknown-output",
                stage=self.name,
                name=path,
                known=[artifact.path for artifact in self.makes],
            )
        return Output(self, path)

    def upstream(self) -> tuple[Stage, ...]:
        """The stages it waits for, each once, in the order of `needs`."""
        parents = {need.stage.name: need.stage for need in self.needs.values() if isinstance(need, Output)}
        return tuple(parents.values())

    def fingerprint(self) -> str:
        return self.identity().fingerprint

    def identity(self, known: dict[str, Identity] | None = None) -> Identity:
        """known: identities by stage name, read and added to; the stages of a chain share most of their upstream."""
        known = {} if known is None else known
        if self.name not in known:
            made_of = self._made_of(known)
            text = json.dumps(made_of, sort_keys=True)
            known[self.name] = Identity(hashlib.sha256(text.encode()).hexdigest()[:16], made_of)
        return known[self.name]

    def _made_of(self, known: dict[str, Identity]) -> dict[str, Any]:
        from proxygrm.critique.prompts import prompt_hash

        needs = {
            label: need.identity()
            if isinstance(need, Given)
            else f"{need.stage.identity(known).fingerprint}/{need.path}"
            for label, need in self.needs.items()
        }
        return {
            "name": self.name,
            "config": self.settings(),
            "array": self.array,
            "needs": needs,
            "prompts": {name: prompt_hash(name) for name in self.prompts},
        }

    def settings(self) -> Any:
        """The configuration as JSON values, without what does not change what the stage makes (`AFTERWARDS`)."""
        values = plain(self.config)
        if not is_dataclass(self.config):
            return values
        return {each.name: values[each.name] for each in fields(self.config) if each.metadata != AFTERWARDS}

    def input_paths(self, run_dir: Path) -> dict[str, Path]:
        return {
            label: need.resolve() if isinstance(need, Given) else run_dir / need.stage.name / need.path
            for label, need in self.needs.items()
        }


@dataclass(frozen=True, kw_only=True)
class OnNodes:
    """Part of every stage's settings: where it runs, set by `--set STAGE.on.nodes=4`."""

    on: Resources = field(default_factory=Resources, metadata=AFTERWARDS)


@dataclass(frozen=True)
class Identity:
    """What decides whether finished work counts: the same fingerprint, the same work."""

    fingerprint: str
    """Hash of the name, the configuration, the prompts and everything upstream."""
    made_of: Mapping[str, Any]
    """The values it is the hash of, as JSON."""


@dataclass(frozen=True)
class StageRun:
    """What a stage's function gets inside its job."""

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


def identities(stages: Iterable[Stage]) -> dict[str, Identity]:
    """The identities of a chain's stages by name, each computed once."""
    known: dict[str, Identity] = {}
    return {stage.name: stage.identity(known) for stage in stages}


def from_folder(stages: Iterable[Stage], folder: str) -> list[Stage]:
    """The same chain with relative paths taken relative to `folder`. stages: each after those it needs."""
    moved: dict[str, Stage] = {}
    for stage in stages:
        needs = {
            label: replace(need, folder=folder)
            if isinstance(need, Given)
            else Output(moved.get(need.stage.name, need.stage), need.path)
            for label, need in stage.needs.items()
        }
        moved[stage.name] = replace(stage, needs=needs)
    return list(moved.values())


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
            hint = did_you_mean(name, by_name, f"it has {', '.join(list(by_name)[:20])}")
            message = f"there is no stage {name!r} in this chain; {hint}"
            raise UserError(message, code="stage.unknown", name=name, known=list(by_name))
        visit(by_name[name])
    return [stage for stage in stages if stage.name in keep]
