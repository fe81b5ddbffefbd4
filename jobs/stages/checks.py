"""What stages check: given inputs, and whether their own settings fit the nodes they ask for.

An RL job that cannot share its GPUs between trainer and proxy is sent together with the distillation and the SFT
before it, and would fail after those have used their GPU-hours. So the plan checks what the job would find out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from jobs.engine.stage import Given, Output, Stage
from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.code import LoadableCheckpoint
from proxygrm.core.checkpoints.kinds import GENERATIVE, PROCESS, kind_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows, numbered_lines, value_of
from slurm.profile import Profile

__all__ = [
    "NamedImages",
    "check_checkpoint",
    "checkpoint",
    "json_lines",
    "judge",
    "on_one_node",
    "pairs",
    "pairs_folder",
    "serves_here",
    "serves_on_one_node",
]


def checkpoint(source: str | Output, loader: str, trust_remote_code: bool) -> Given | Output:
    """What another stage made, or a checkpoint by its path or hub name. loader: the settings that allow its code."""
    if isinstance(source, Output):
        return source
    return Given(source, check=LoadableCheckpoint(f"--set {loader}.trust_remote_code=true", trust_remote_code))


def judge(source: str | Output, loader: str, trust_remote_code: bool, steps: bool, kind: str = "") -> Given | Output:
    """As `checkpoint`, of one that judges responses: solutions in steps, or not. kind: as the user says."""
    given = checkpoint(source, loader, trust_remote_code)
    return replace(given, check=Judge(given.check, steps, kind=kind)) if isinstance(given, Given) else given


@dataclass(frozen=True)
class Judge:
    """Checks that a checkpoint can judge what it will be shown."""

    loadable: Callable[[Path], None]
    steps: bool
    """Solutions in steps."""
    alone: bool = False
    """One response, and none to compare it with."""
    kind: str = ""
    """As the user says."""
    helped: bool = False
    """Others describe or audit for it."""

    def __call__(self, path: Path) -> None:
        self.loadable(path)
        kind = kind_of(path, self.kind)
        if kind == PROCESS and not self.steps:
            raise UserError(
                f"{path} judges the steps of solutions, and the policy is not asked for them: set steps=true of the RL "
                "stage's reward, or give another judge",
                code="reward.needs-steps",
                path=path,
            )
        if kind != PROCESS and self.helped:
            raise UserError(
                f"{path} does not judge steps, so nobody describes or audits for it: leave out the extractor and the "
                "auditor of its servers",
                code="reward.idle-helper",
                path=path,
            )
        if kind == GENERATIVE and self.alone:
            raise UserError(
                f"{path} compares two responses and cannot score one: set compares=true of the RL stage's reward, or "
                "give a model that scores (one that judges steps without a marker: kind=process of its servers)",
                code="reward.needs-comparison",
                path=path,
            )


def pairs(path: str) -> Given:
    """A pairs folder as `data_tools` writes it."""
    return Given(path, check=pairs_folder, made_by="proxygrm data ingest SOURCE PATH --out {path}")


def pairs_folder(path: Path) -> None:
    """Raises UserError if the path is not a pairs folder of this version."""
    if not (path / "pairs.parquet").is_file():
        raise UserError(
            f"{path} has no pairs.parquet; make one with `proxygrm data ingest SOURCE PATH --out DIR`",
            code="data.not-a-pairs-folder",
            path=str(path),
        )
    from proxygrm.core.pairs import pairs_file

    pairs_file(path).close()  # of a layout that this version reads


def json_lines(path: str) -> Given:
    """A JSONL of objects, of which there is one at least."""
    return Given(path, check=_begins_with_an_object)


@dataclass(frozen=True)
class NamedImages(Given):
    """The folder of the images that a JSONL names. The images count, and not what else is in the folder: the rows may
    lie beside the runs, which would make every one of their stages another one as they write."""

    rows: str = ""
    """The JSONL."""

    def identity(self) -> str:
        rows, root = Path(self.folder, Path(self.rows).expanduser()).absolute(), self.resolve()
        return _named_images(rows, rows.stat().st_mtime_ns, root) if rows.is_file() else f"missing:{self.path}"

    def counts(self, folder: Path) -> bool:
        return False


@lru_cache(maxsize=64)
def _named_images(rows: Path, modified_ns: int, root: Path) -> str:
    """Of names and sizes. A row that names none is left to the stage, which says what is wrong with it."""
    from proxygrm.evaluate.rows.pairs import image_files, image_names

    names = set[str]()
    for _, line in numbered_lines(rows, checked=False):
        try:
            names.update(image_names(value_of(line)))
        except (ValueError, TypeError, AttributeError):
            continue
    digest = hashlib.sha256()
    for name in sorted(names):
        try:
            (file,) = image_files([name], root)
            size = str(file.stat().st_size) if file.is_file() else "missing"
        except OSError:
            size = "unreadable"
        digest.update(f"{name}\0{size}\0".encode(errors="backslashreplace"))
    return digest.hexdigest()


def _begins_with_an_object(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a JSONL", code="file.not-a-file", path=path)
    try:
        row = next((row for _, row in json_rows(path)), None)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", code="file.missing", path=path) from error
    if not isinstance(row, dict):
        what = "has no rows" if row is None else "begins with a row that is not an object"
        raise UserError(f"{path} {what}; give a JSONL of objects", code="file.bad-row", path=path)


def on_one_node(stage: Stage, profile: Profile, more: str = "") -> None:
    """For a stage that does not know of other nodes: on two of them both would do all the work, into one folder."""
    if stage.on.nodes > 1:
        raise UserError(
            f"it works on one node{more}; only SFT and RL spread over several",
            code="stage.one-node-only",
            nodes=stage.on.nodes,
        )


def serves_on_one_node(stage: Stage, profile: Profile) -> None:
    on_one_node(stage, profile)
    serves_here(stage, profile, stage.config.tensor_parallel_size)


def serves_here(stage: Stage, profile: Profile, tensor_parallel_size: int) -> None:
    """For a stage that serves a model on its own node's GPUs."""
    if profile.node.device != "cpu" and tensor_parallel_size > stage.on.gpus_per_node:
        raise UserError(
            f"it serves a model on {tensor_parallel_size} GPUs (tensor_parallel_size)",
            code="stage.too-few-gpus",
            needed=tensor_parallel_size,
            gpus_per_node=stage.on.gpus_per_node,
        )
