"""A cluster profile: the facts of one SLURM site, read strictly from clusters/NAME.toml."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from proxygrm.errors import UserError

CLUSTERS = Path(__file__).parent / "clusters"
T = TypeVar("T")


@dataclass(frozen=True)
class Scheduler:
    """How jobs are asked for."""

    partition: str = ""
    """Partition of GPU stages; empty means the site's default."""
    cpu_partition: str = ""
    """Partition of stages without GPUs; empty means the same as `partition`."""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclude: str = ""
    max_nodes: int = 0
    """Most nodes one job may have; 0 means no limit known."""
    max_walltime_min: int = 0
    signal_before_end_s: int = 120
    """How long before the time limit a job is told to save and requeue."""
    sbatch: dict[str, str] = field(default_factory=dict)
    """Any further sbatch option, by its long name."""


@dataclass(frozen=True)
class Node:
    """What one node has."""

    gpus: int = 8
    gpu_type: str = ""
    """As in `--gpus-per-node=TYPE:N`; empty asks for GPUs of any type."""
    cpus: int = 64
    memory_gb: int = 512
    device: str = "cuda"
    """`cuda`, or `cpu` where no real GPU stands behind the scheduler's."""
    interface: str = ""
    """Network interface of NCCL, Gloo and Ray; empty means the address SLURM knows the node by."""


@dataclass(frozen=True)
class Environment:
    """What a job does before Python starts."""

    setup: list[str] = field(default_factory=list)
    """Shell lines, for example `module load cuda/12.8`."""
    variables: dict[str, str] = field(default_factory=dict)
    """Exported into the job. Not for secrets: they would stand in the submitted script."""
    python: str = ""
    """Interpreter in the job; empty means the one that submits."""


@dataclass(frozen=True)
class Profile:
    """One site. Unknown keys are errors: a misspelt one would otherwise silently do nothing."""

    name: str
    description: str = ""
    experiment: str = "paper"
    """The experiment this site runs unless another is named."""
    private_cluster: bool = False
    """True when `proxygrm cluster up` provides the scheduler."""
    scheduler: Scheduler = Scheduler()
    node: Node = Node()
    environment: Environment = Environment()


def names() -> list[str]:
    return sorted(path.stem for path in CLUSTERS.glob("*.toml"))


def load(name: str) -> Profile:
    """A profile by the name of a shipped one, or by the path of a TOML file."""
    path = Path(name) if name.endswith(".toml") else CLUSTERS / f"{name}.toml"
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise UserError(f"no cluster profile {name!r} ({path}); {hint} A path to your own .toml works too")
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    profile = strict(Profile, {"name": path.stem, **table}, str(path))
    for variable in profile.environment.variables:
        if re.search(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)($|_)", variable.upper()):
            raise UserError(
                f"{path}: environment.variables.{variable} looks like a secret and would be written into "
                "submitted scripts; export it in your shell or keep it in a 0600 file instead"
            )
    return profile


def strict(kind: type[T], table: dict[str, Any], where: str) -> T:
    """Build a frozen dataclass from a table; an unknown key names the nearest known one, a wrong type says so."""
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
        values[key] = _typed(hints[key], value, f"{where}: {key}")
    return kind(**values)


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a table, found {value!r}")
        return strict(hint, value, where)  # type: ignore[arg-type]
    origin = get_origin(hint) or hint
    accepted = (int, float) if origin is float else origin
    if not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool):
        raise UserError(f"{where}: expected {getattr(origin, '__name__', origin)}, found {value!r}")
    inner = get_args(hint)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for item in items:
        if not isinstance(item, inner[-1]):
            raise UserError(f"{where}: expected {inner[-1].__name__} values, found {item!r}")
    return value
