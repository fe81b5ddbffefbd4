"""Mix: pairs folders of several sources become one, by a spec (docs/data.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_tools.mix.spec import MixSpec, read_spec, shipped_file
from jobs.engine.stage import Artifact, Given, OnNodes, Stage, StageRun
from jobs.stages import checks
from jobs.stages.data.shards import carry_out
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from slurm.profile import Profile


@dataclass(frozen=True)
class Settings(OnNodes):
    spec: str = "base-reward"
    """A TOML file, or the name of a shipped one."""
    root: str = "data"
    """Folder of the spec's relative paths: it holds the pairs folders. When it changes, the mixture is made again."""
    only: str = ""
    """Names of the sources to use, separated by commas; "" for all. Ablations leave sources out by it."""
    seed: int = 0
    """Which rows the caps and weights take."""
    shards: int = 8
    """Parts of the work; the result does not depend on it."""

    def __post_init__(self) -> None:
        check_bounds("mix", self, from_one=("shards",), from_zero=("seed",))


def stage(name: str, *, settings: Settings) -> Stage:
    """Makes `pairs`, a pairs folder."""
    return Stage(
        name=name,
        run=mix,
        needs={
            "spec": Given(str(shipped_file(settings.spec) or settings.spec)),
            "root": Given(settings.root, check=_folder, made_by="proxygrm data ingest SOURCE PATH --out {path}/SOURCE"),
        },
        makes=(Artifact("pairs", check=checks.pairs_folder),),
        on=settings.on,
        validate=validate,
        config=settings,
    )


def _folder(path: Path) -> None:
    if not path.is_dir():
        raise UserError(
            f"{path} is not a folder; give the one that holds the pairs folders, --set NAME.root=DIR",
            code="file.not-a-folder", path=path,
        )  # fmt: skip


def validate(stage: Stage, profile: Profile) -> None:
    checks.on_one_node(stage, profile)
    needs = {label: need.resolve() for label, need in stage.needs.items() if isinstance(need, Given)}
    spec = _spec(stage.config, needs["spec"], needs["root"])
    for folder in (*spec.folders, *spec.against):
        checks.pairs_folder(folder)


def mix(run: StageRun) -> None:
    from data_tools.mix.run import mix_step

    spec = _spec(run.config, run.inputs["spec"], run.inputs["root"])
    carry_out(mix_step(spec, run.out / "pairs"), run)


def _spec(settings: Settings, file: Path, root: Path) -> MixSpec:
    only = [name.strip() for name in settings.only.split(",") if name.strip()]
    return read_spec(file, root, only, settings.seed)
