"""A cluster profile: the facts of one SLURM site, read strictly from clusters/NAME.toml."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from proxygrm.core.bounds import require
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.one_line import refuse_control

CLUSTERS = Path(__file__).parent / "clusters"
OWN_OPTIONS = {
    **dict.fromkeys(
        ("partition", "account", "qos", "constraint", "reservation", "exclude", "exclusive"), "scheduler.{}"
    ),
    **{"time": "--set on.STAGE.walltime_min=N", "nodes": "--nodes", "hold": "--hold", "dependency": "--after"},
    "signal": "scheduler.signal_before_end_s",
}
"""Options of sbatch that are said elsewhere, and where; a second word for one of them would win or lose in silence."""
NEVER = ("array", "ntasks", "ntasks-per-node", "requeue", "no-requeue", "job-name", "output", "error", "open-mode")
"""Options that a chain depends on."""
EXCLUSIVE = ("", "user", "mcs", "node")
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
    exclusive: str = ""
    """Who else may have jobs on a job's nodes: `user` nobody but you, `mcs` nobody outside your MCS label, `node` no
    other job at all; empty: as the partition has it."""
    max_nodes: int = 0
    """Most nodes one job may have; 0 means no limit known."""
    max_walltime_min: int = 0
    signal_before_end_s: int = 120
    """How long before the time limit a job is told to save and requeue."""
    max_requeues: int = 20
    """Starts of one job after the first, whatever ended it (preemption, time limit, node failure); then it fails."""
    sbatch: dict[str, str] = field(default_factory=dict)
    """Any further sbatch option, by its long name; not those that a chain sets itself."""


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

    modules: list[str] = field(default_factory=list)
    """Environment modules to load, in this order, for example `cuda/13.0`; a job ends where one cannot be loaded."""
    venv: str = ""
    """A virtual environment to activate, as the compute nodes see it."""
    setup: list[str] = field(default_factory=list)
    """Further shell lines, after modules and venv; each item is one line."""
    variables: dict[str, str] = field(default_factory=dict)
    """Exported into the job. Not for secrets: they would stand in the submitted script."""
    python: str = ""
    """Interpreter in the job; empty means the venv's, in a container `python3`, else the one that submits."""


@dataclass(frozen=True)
class Container:
    """The image jobs run in. The repository and the run folder are mounted under their own paths by themselves."""

    runtime: str = ""
    """`pyxis` (srun --container-image, with enroot) or `apptainer`; empty: no container."""
    image: str = ""
    """A file on the shared file system (.sqsh, .sif), or what the runtime pulls from."""
    mounts: list[str] = field(default_factory=list)
    """HOST, HOST:INSIDE or HOST:INSIDE:ro; what else jobs read: data, models, SLURM's client."""
    options: list[str] = field(default_factory=list)
    """Further options of srun (pyxis) or of `apptainer exec`, for example `--no-container-mount-home`."""


@dataclass(frozen=True)
class Health:
    """What a node must show before work starts on it; jobs with GPUs or with several nodes look first."""

    preflight: bool = True
    command: str = ""
    """The site's own check, one line of shell that bash runs on each node: an exit code other than 0 makes the node
    bad, its last line of output says why."""
    slow_factor: float = 1.5
    """How many times the group's median a node's matrix product or all-reduce may take."""
    min_shm_gb: float = 1.0
    """Free space in /dev/shm, where Ray, NCCL and vLLM keep buffers."""
    gpu_memory_free: float = 0.9
    """Share of each GPU's memory that nobody uses yet."""
    max_clock_skew_s: float = 5.0
    max_requeues: int = 2
    """How often a job is requeued without its bad nodes before it fails and names them."""
    timeout_s: float = 180.0
    """A node that has not answered by then is bad."""
    end_stale: bool = False
    """End what this suite's earlier jobs left on a node; only named otherwise."""


SHELL = ((Environment, "setup"), (Health, "command"))
"""What is meant to be shell; everything else is one word wherever a shell reads it."""


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
    container: Container = Container()
    health: Health = Health()


def names() -> list[str]:
    return sorted(path.stem for path in CLUSTERS.glob("*.toml"))


def load(name: str) -> Profile:
    """A profile by the name of a shipped one, or by the path of a TOML file."""
    path = Path(name) if name.endswith(".toml") else CLUSTERS / f"{name}.toml"
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}."
        raise UserError(f"no cluster profile {name!r} ({path}); {hint} A path to your own .toml works too")
    try:
        table = tomllib.loads(read_user_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    profile = strict(Profile, {"name": path.stem, **table}, str(path))
    for variable in profile.environment.variables:
        if re.search(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)($|_)", variable.upper()):
            raise UserError(
                f"{path}: environment.variables.{variable} looks like a secret and would be written into "
                "submitted scripts; export it in your shell or keep it in a 0600 file instead"
            )
    return _checked(profile, str(path))


def with_scheduler(profile: Profile, values: Mapping[str, str]) -> Profile:
    """The profile with other values of [scheduler], from --partition, --account and so on."""
    for name, value in values.items():
        refuse_control(value, f"--{name}")
    scheduler = dataclasses.replace(profile.scheduler, **dict[str, Any](values))
    return _checked(dataclasses.replace(profile, scheduler=scheduler), f"profile {profile.name}")


def _checked(profile: Profile, where: str) -> Profile:
    try:
        problem = _unusable(profile)
    except UserError as error:
        problem = str(error)
    if problem:
        raise UserError(f"{where}: {problem}")
    return profile


def _unusable(profile: Profile) -> str | None:
    """What no type tells: values that would only fail in the job, or do something else there."""
    container, health = profile.container, profile.health
    require("node", profile.node, from_one=("cpus", "memory_gb"), from_zero=("gpus",))
    require(
        "scheduler",
        profile.scheduler,
        from_zero=("max_nodes", "max_walltime_min", "max_requeues"),
        from_one=("signal_before_end_s",),
    )
    if profile.node.device not in ("cuda", "cpu"):
        return f"node.device: {profile.node.device!r} is unknown; there are cuda and cpu"
    to_sbatch = {**dataclasses.asdict(profile.scheduler), **profile.scheduler.sbatch, "gpu_type": profile.node.gpu_type}
    for name, value in to_sbatch.items():
        if isinstance(value, str) and "\\" in value:
            return f"{name} has a backslash in it, which sbatch would take away; write it without"
    for option in profile.scheduler.sbatch:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", option):
            return f"scheduler.sbatch: {option!r} is no long name of an option, for example mail-user"
        if option in NEVER or option in OWN_OPTIONS:
            place = OWN_OPTIONS.get(option, "").format(option)
            return f"scheduler.sbatch.{option}: {f'say it by {place}' if place else 'the chain depends on its own'}"
    for name in profile.environment.variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            return f"environment.variables: {name!r} is no name that a shell can export"
    if profile.scheduler.exclusive not in EXCLUSIVE:
        return f"scheduler.exclusive: {profile.scheduler.exclusive!r} is unknown; there are user, mcs and node"
    for key in ("venv", "python"):
        text = getattr(profile.environment, key)
        if text.startswith("~") or "$" in text or "`" in text:
            return f"environment.{key}: {text!r} is taken as it stands and not read by a shell; write the whole path"
    for name in profile.environment.modules:
        if not re.fullmatch(r"[\w.+/@:=-]+", name):
            return f"environment.modules: {name!r} is no name of a module; shell lines belong into environment.setup"
    if container.runtime not in ("", "pyxis", "apptainer"):
        return f"container.runtime: {container.runtime!r} is unknown; there are pyxis and apptainer"
    if bool(container.runtime) != bool(container.image):
        return "container: runtime and image belong together; give both or neither"
    for mount in container.mounts:
        if not re.fullmatch(r"/[^:,]*(:/[^:,]*)?(:r[ow])?", mount):
            return f"container.mounts: {mount!r} is not /HOST, /HOST:/INSIDE or /HOST:/INSIDE:ro"
    if health.slow_factor < 1 or health.timeout_s <= 0 or not 0 <= health.gpu_memory_free <= 1:
        return "health: slow_factor is at least 1, timeout_s above 0, gpu_memory_free a share of 1"
    return None


def strict(kind: type[T], table: dict[str, Any], where: str) -> T:
    """Build a frozen dataclass from a table; an unknown key names the nearest known one, a wrong type says so."""
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        refuse_control(key, where)
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
        values[key] = _typed(hints[key], value, f"{where}: {key}", "\t" if (kind, key) in SHELL else "")
    return kind(**values)


def _typed(hint: Any, value: Any, where: str, allowed: str) -> Any:
    """allowed: control characters that texts may have."""
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
    for text in [value, *items, *(value if isinstance(value, dict) else ())]:
        if isinstance(text, str):
            refuse_control(text, where, allowed)
    return value
