"""A cluster profile: the facts of one SLURM site, read strictly from clusters/NAME.toml."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxygrm.core import settings
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.one_line import refuse_control

CLUSTERS = Path(__file__).parent / "clusters"
OWN_OPTIONS = {
    **dict.fromkeys(
        ("partition", "account", "qos", "constraint", "reservation", "exclude", "exclusive"), "scheduler.{}"
    ),
    **{"time": "--set STAGE.on.timeout_min=N", "nodes": "--nodes", "hold": "--hold", "dependency": "--after"},
    "signal": "scheduler.signal_before_end_s",
}
"""Options of sbatch that are set elsewhere, and where; a second value would silently win or lose."""
NEVER = ("array", "ntasks", "ntasks-per-node", "requeue", "no-requeue", "job-name", "output", "error", "open-mode")
"""Options that a chain depends on."""
EXCLUSIVE = ("", "user", "mcs", "node")


@dataclass(frozen=True)
class Scheduler:
    """How jobs are requested."""

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
    """Whose jobs may share a job's nodes: `user` only yours, `mcs` only those of your MCS label, `node` none; empty: as
    the partition is set."""
    max_nodes: int = 0
    """Most nodes one job may have; 0 means no known limit."""
    max_walltime_min: int = 0
    signal_before_end_s: int = 120
    """How long before the time limit a job is signalled to save and requeue."""
    max_requeues: int = 20
    """Starts of one job after the first, for any reason (preemption, time limit, node failure); then it fails."""
    sbatch: dict[str, str] = field(default_factory=dict)
    """Further options of sbatch, by their long names; not those that a chain sets itself."""


@dataclass(frozen=True)
class Node:
    """The resources of one node."""

    gpus: int = 8
    gpu_type: str = ""
    """As in `--gpus-per-node=TYPE:N`; empty requests GPUs of any type."""
    cpus: int = 64
    memory_gb: int = 512
    device: str = "cuda"
    """`cuda`, or `cpu` where the scheduler's GPUs are names only."""
    interface: str = ""
    """Network interface of NCCL, Gloo and Ray; empty means the one of the address that SLURM has for the node."""


@dataclass(frozen=True)
class Environment:
    """What a job does before Python starts."""

    modules: list[str] = field(default_factory=list)
    """Environment modules to load, in this order, for example `cuda/13.0`; the job fails where one cannot be loaded."""
    venv: str = ""
    """A virtual environment to activate, as the compute nodes see it."""
    setup: list[str] = field(default_factory=list)
    """Further shell lines, after modules and venv; each item is one line."""
    variables: dict[str, str] = field(default_factory=dict)
    """Exported into the job. Not for secrets: they are written into the submitted script."""
    python: str = ""
    """Interpreter in the job; empty means the venv's, in a container `python3`, else the one that submits."""


@dataclass(frozen=True)
class Container:
    """The image jobs run in. The repository and the run folder are always mounted, under their own paths."""

    runtime: str = ""
    """`pyxis` (srun --container-image, with enroot) or `apptainer`; empty: no container."""
    image: str = ""
    """A file on the shared file system (.sqsh, .sif), or an address the runtime pulls from."""
    mounts: list[str] = field(default_factory=list)
    """HOST, HOST:INSIDE or HOST:INSIDE:ro, for whatever else jobs read: data, models, SLURM's client."""
    options: list[str] = field(default_factory=list)
    """Further options of srun (pyxis) or of `apptainer exec`, for example `--no-container-mount-home`."""


@dataclass(frozen=True)
class Health:
    """What a node must pass before work starts on it; checked by jobs with GPUs or with several nodes."""

    preflight: bool = True
    command: str = ""
    """The site's own check, one line of shell that bash runs on each node: an exit code other than 0 makes the node
    bad, its last line of output says why."""
    slow_factor: float = 1.5
    """How long a node's matrix product or all-reduce may take, as a multiple of the group's median."""
    min_shm_gb: float = 1.0
    """Free space in /dev/shm, where Ray, NCCL and vLLM keep buffers."""
    gpu_memory_free: float = 0.9
    """Share of each GPU's memory that must be free."""
    max_clock_skew_s: float = 5.0
    max_requeues: int = 2
    """How often a job is requeued without its bad nodes before it fails and names them."""
    timeout_s: float = 180.0
    """A node that has not answered by then is bad."""
    end_stale: bool = False
    """End processes that this suite's earlier jobs left on a node; else they are only reported."""


SHELL = ((Environment, "setup"), (Health, "command"))
"""Values that are shell code; everything else is quoted wherever a shell reads it."""


@dataclass(frozen=True)
class Profile:
    """One site. Unknown keys are errors: a misspelt one would silently do nothing."""

    name: str
    description: str = ""
    recipe: str = "proxy_grm"
    """The recipe this site runs unless another is named."""
    preset: str = "paper"
    """The preset of a recipe that is taken here unless another is named; of a recipe that has no such, its first."""
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
    """A shipped profile by its name, or one of the user's by the path of its TOML file."""
    path = Path(name) if name.endswith(".toml") else CLUSTERS / f"{name}.toml"
    if not path.is_file():
        hint = settings.did_you_mean(name, names())
        raise UserError(
            f"there is no cluster profile {name!r} ({path}); {hint} (or give the path of your own .toml)",
            code="profile.unknown-name",
            name=name,
            known=names(),
        )
    try:
        table = tomllib.loads(read_user_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}", code="profile.not-toml", path=path) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}", code="profile.unreadable", path=path, reason=error.strerror
        ) from error
    profile = from_record({"name": path.stem, **table}, str(path))
    for variable in profile.environment.variables:
        if re.search(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD)($|_)", variable.upper()):
            raise UserError(
                f"{path}: environment.variables.{variable} looks like a secret and would be written into "
                "submitted scripts; export it in your shell or keep it in a 0600 file instead",
                code="profile.secret",
                path=path,
                name=variable,
            )
    return _checked(profile, str(path))


def from_record(table: Mapping[str, Any], where: str) -> Profile:
    """A profile as a file or a run's record has it. Raises UserError."""
    return settings.from_table(Profile, table, where, tabs=SHELL)


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
        raise UserError(f"{where}: {error}", code=error.code or "profile.unusable", **error.values) from error
    if problem:
        key, reason = problem
        raise UserError(f"{where}: {key}{reason}", code="profile.unusable", where=where, key=key)
    return profile


def _unusable(profile: Profile) -> tuple[str, str] | None:
    """(key, problem) of a value that has the right type and would only fail in the job, or do something else there."""
    container, health = profile.container, profile.health
    check_bounds("node", profile.node, from_one=("cpus", "memory_gb"), from_zero=("gpus",))
    check_bounds(
        "scheduler",
        profile.scheduler,
        from_zero=("max_nodes", "max_walltime_min", "max_requeues"),
        from_one=("signal_before_end_s",),
    )
    if profile.node.device not in ("cuda", "cpu"):
        return "node.device", f": {profile.node.device!r} is unknown; there are cuda and cpu"
    to_sbatch = {**dataclasses.asdict(profile.scheduler), **profile.scheduler.sbatch, "gpu_type": profile.node.gpu_type}
    for name, value in to_sbatch.items():
        if isinstance(value, str) and "\\" in value:
            return name, " contains a backslash, which sbatch would remove; write it without"
    for option in profile.scheduler.sbatch:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", option):
            return "scheduler.sbatch", f": {option!r} is not the long name of an option, such as mail-user"
        if option in NEVER or option in OWN_OPTIONS:
            place = OWN_OPTIONS.get(option, "").format(option)
            remedy = f"set it with {place}" if place else "the chain sets it and depends on it"
            return f"scheduler.sbatch.{option}", f": {remedy}"
    for name in profile.environment.variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            return "environment.variables", f": {name!r} is not a name that a shell can export"
    if profile.scheduler.exclusive not in EXCLUSIVE:
        return "scheduler.exclusive", f": {profile.scheduler.exclusive!r} is unknown; there are user, mcs and node"
    for key in ("venv", "python"):
        text = getattr(profile.environment, key)
        if text.startswith("~") or "$" in text or "`" in text:
            return f"environment.{key}", f": {text!r} is not expanded by a shell; write the whole path"
    for name in profile.environment.modules:
        if not re.fullmatch(r"[\w.+/@:=-]+", name):
            return (
                "environment.modules",
                f": {name!r} is not a module's name; shell lines belong in environment.setup",
            )
    if container.runtime not in ("", "pyxis", "apptainer"):
        return "container.runtime", f": {container.runtime!r} is unknown; there are pyxis and apptainer"
    if bool(container.runtime) != bool(container.image):
        return "container", ": runtime and image belong together; give both or neither"
    for mount in container.mounts:
        if not re.fullmatch(r"/[^:,]*(:/[^:,]*)?(:r[ow])?", mount):
            return "container.mounts", f": {mount!r} is not /HOST, /HOST:/INSIDE or /HOST:/INSIDE:ro"
    if health.slow_factor < 1 or health.timeout_s <= 0 or not 0 <= health.gpu_memory_free <= 1:
        return "health", ": slow_factor is at least 1, timeout_s above 0, gpu_memory_free between 0 and 1"
    return None
