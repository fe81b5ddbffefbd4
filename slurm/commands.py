"""The one place where SLURM's commands are run, in a clean environment.

SLURM's commands take options from the environment as well: `SBATCH_TIMELIMIT` beats the `#SBATCH --time` of a script,
`SQUEUE_STATES` hides jobs, `SLURM_CLUSTERS` queries another cluster. A shell inside an allocation has dozens of
`SLURM_*` variables, which `srun` of the next job would obey. None of them may change what is submitted or read back.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.errors import UserError

TIMEOUT_S = 60.0
FAMILIES = (
    *("SLURM_", "SLURMD_", "SLURMCTLD_", "SLURMDBD_", "SLURMSTEPD_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_"),
    *("SINFO_", "SACCT_", "SACCTMGR_", "SCANCEL_", "SCONTROL_", "SPRIO_", "SREPORT_", "SSHARE_", "SSTAT_", "STRIGGER_"),
    *("SBCAST_", "SCRONTAB_", "SATTACH_", "SDIAG_", "SUBMITIT_", "PMI_", "PMIX_", "PMI2_", "OMPI_", "TORCHELASTIC_"),
)
"""Prefixes of variables that are read by SLURM's commands, by submitit, or by a process that one of them launched."""
LAUNCHED = (
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
    *("GROUP_RANK", "ROLE_RANK", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
    "ZE_AFFINITY_MASK",
)
"""Set by an allocation or a launcher for its own processes; a job that is sent from there must not inherit them."""
KEPT = ("SLURM_CONF", "SLURM_JWT", "SLURM_SACK_SOCKET")
"""Which SLURM is used, and as which user."""
READ_BACK = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C.UTF-8"}
"""Times in seconds since the epoch (no time zone to guess), whole lists of array elements, English messages."""
REMEDY = "log in to the cluster's login node, or `make cluster-up` starts a private one"


class _Kept:
    """The environment that jobs inherit; None: this process's own."""

    environment: dict[str, str] | None = None


class NoAnswer(UserError):
    """A command of SLURM is missing, failed, or did not answer; the message is its own first line."""

    code = "slurm.no-answer"


def is_ignored(name: str) -> bool:
    """Whether a variable of the shell is kept from SLURM's commands and from the jobs that are submitted."""
    return name not in KEPT and (name.startswith(FAMILIES) or name in LAUNCHED)


def ignored(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that are not passed on, sorted."""
    return sorted(filter(is_ignored, environment))


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what is ignored."""
    return {name: value for name, value in environment.items() if not is_ignored(name)}


@contextmanager
def environment_kept() -> Iterator[None]:
    """Jobs sent in the block inherit the environment as it is now. What libraries set meanwhile is for this process:
    PyTorch, for one, would have all jobs take compiled code from a folder of /tmp that another user could make."""
    before = _Kept.environment
    _Kept.environment = dict(os.environ) if before is None else before
    try:
        yield
    finally:
        _Kept.environment = before


def set_environment(variables: Mapping[str, str]) -> None:
    """Of this process, and of the jobs that it sends."""
    os.environ.update(variables)
    if _Kept.environment is not None:
        _Kept.environment.update(variables)


def answer(*command: str, timeout_s: float = TIMEOUT_S, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands, whatever its exit code is. typed: what it reads from its standard input.

    Raises NoAnswer when it is missing or does not end within timeout_s.
    """
    try:
        return _run(command, {**clean(os.environ), **READ_BACK}, timeout_s, typed)
    except FileNotFoundError:
        raise not_installed(command[0]) from None
    except OSError as error:
        raise NoAnswer(
            f"{command[0]} cannot be run: {error.strerror}", code="slurm.command-not-runnable", command=command[0]
        ) from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(
            f"SLURM did not answer {command[0]} within {timeout_s:.0f} s; try again",
            code="slurm.timeout",
            command=command[0],
            timeout_s=timeout_s,
        ) from None


def not_installed(command: str) -> NoAnswer:
    return NoAnswer(f"no SLURM here: {command} is not on PATH; {REMEDY}", code="slurm.not-installed", command=command)


def ask(*command: str, timeout_s: float = TIMEOUT_S, typed: str = "") -> str:
    """Standard output of one of SLURM's commands. Raises NoAnswer also when it fails, with its first line of errors."""
    done = answer(*command, timeout_s=timeout_s, typed=typed)
    if done.returncode:
        raise failed(done)
    return done.stdout


def failed(done: subprocess.CompletedProcess[str]) -> NoAnswer:
    """The error for a command that ended with another exit code than 0."""
    reason = first_line(done)
    return NoAnswer(
        f"{done.args[0]} failed: {reason}", code="slurm.command-failed", command=done.args[0], reason=reason
    )


def first_line(done: subprocess.CompletedProcess[str]) -> str:
    """The first line that a failed command printed, without its own name before it."""
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[0].removeprefix(f"{done.args[0]}: ").removeprefix("error: ")


def sbatch(script: Path) -> subprocess.CompletedProcess[str]:
    """Send a batch script. Jobs inherit this process's environment (`environment_kept`) without the ignored variables.
    Without a timeout: what sbatch had sent when it was killed could arrive all the same. Raises OSError."""
    return _run(("sbatch", str(script)), clean(os.environ if _Kept.environment is None else _Kept.environment), None)


def _run(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float | None, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, input=typed, capture_output=True, encoding="utf-8",
        errors="replace", timeout=timeout_s, check=False,
    )  # fmt: skip


def host_names(listed: str) -> list[str]:
    """ "n[1-2],m7" -> its nodes, in the order of a job's tasks (one task per node); [] when SLURM does not answer."""
    try:
        return ask("scontrol", "show", "hostnames", listed).split() if listed else []
    except NoAnswer:
        return []
