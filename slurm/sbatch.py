"""The `#SBATCH` options of a job, as submitit's parameters: pure, values in and values out.

submitit writes the header itself (`slurm.submission.script`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proxygrm.core.bounds import check_bounds
from slurm.environment import REPOSITORY, setup_lines
from slurm.profile import Profile


@dataclass(frozen=True)
class Resources:
    """What one job (one element of an array) requests from the scheduler."""

    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int = 2
    mem_gb: int = 8
    timeout_min: int = 60

    def __post_init__(self) -> None:
        check_bounds(
            "resources",
            self,
            from_one=("nodes", "cpus_per_task", "mem_gb", "timeout_min"),
            from_zero=("gpus_per_node",),
        )


class Job(Protocol):
    """The part of a stage that the scheduler needs; `jobs.engine.stage.Stage` has it."""

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> str:
        """Jobs of one batch are the elements of one array, which has this name."""

    @property
    def array(self) -> int: ...
    @property
    def on(self) -> Resources: ...


def partition_of(stage: Job, profile: Profile) -> str:
    """ "" for the site's default."""
    scheduler = profile.scheduler
    return scheduler.partition if stage.on.gpus_per_node else scheduler.cpu_partition or scheduler.partition


def sbatch_parameters(
    stage: Job, profile: Profile, depends_on: str, hold: bool = False, code: Path = REPOSITORY
) -> dict[str, Any]:
    """What a submission requests from SLURM, in submitit's parameter names. depends_on: as in sbatch's --dependency.
    code: the folder of the code it runs."""
    scheduler, on = profile.scheduler, stage.on
    partition = partition_of(stage, profile)
    parameters: dict[str, Any] = {
        "job_name": stage.batch or stage.name,
        "time": on.timeout_min,
        "nodes": on.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": on.cpus_per_task,
        "mem": f"{on.mem_gb}GB",
        "signal_delay_s": scheduler.signal_before_end_s,
        "stderr_to_stdout": True,
        # Since SLURM 22.05 srun no longer takes the CPUs of a task from its batch job: without the number a site that
        # binds tasks may give a whole node's training one core.
        # All of the batch script's environment goes to the tasks, also where the site or the profile sets
        # --export=NONE for sbatch.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={on.cpus_per_task}", "--export=ALL"],
        "wckey": None,
        "setup": setup_lines(profile, code),
    }
    if on.gpus_per_node:
        typed = f"{profile.node.gpu_type}:{on.gpus_per_node}" if profile.node.gpu_type else on.gpus_per_node
        parameters["gpus_per_node"] = typed
    for name in ("account", "qos", "constraint", "exclude"):
        if value := getattr(scheduler, name):
            parameters[name] = value
    if scheduler.exclusive:
        parameters["exclusive"] = True if scheduler.exclusive == "node" else scheduler.exclusive
    if partition:
        parameters["partition"] = partition
    additional: dict[str, Any] = {**scheduler.sbatch}
    if scheduler.reservation:
        additional["reservation"] = scheduler.reservation
    if depends_on:
        parameters["dependency"] = depends_on
        # Without it a stage whose upstream failed would stay in the queue forever on sites that do not set
        # kill_invalid_depend.
        additional["kill-on-invalid-dep"] = "yes"
    additional["requeue"] = True
    # submitit takes the signal's name from the shell's SUBMITIT_PREEMPT_SIGNAL; the job handles this one.
    additional["signal"] = f"USR2@{scheduler.signal_before_end_s}"
    if hold:
        additional["hold"] = True
    parameters["additional_parameters"] = additional
    return parameters
