"""The only module that uses submitit: a batch script with its pickles, sent under a token.

submitit gives its files random names and renames them once sbatch has printed the job's id. A sender that is killed in
between would leave a job without its pickle. Here the names contain the token (`jobs.engine.run_folder.tokens`), and
the script itself puts the pickle where the job looks for it; the script's name, which SLURM keeps too, identifies the
job.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import submitit
from submitit.core import utils
from submitit.slurm import slurm

from slurm import commands, private

LOST = re.compile(
    r"timed? ?out|unable to contact|communication|connect|transmit|receive|zero bytes|reset by peer|broken pipe"
    r"|standby|message",
    re.IGNORECASE,
)
"""Errors of sbatch about its connection to the controller: the job may have arrived."""


class Refused(Exception):
    """SLURM refused, or sbatch could not be run: there is no job. The message is sbatch's own."""


class InDoubt(Exception):
    """sbatch did not report whether there is a job. The message is its own, or how it ended."""


def script(folder: Path, python: str, parameters: dict[str, Any], token: str, elements: int) -> str:
    """The exact batch script of a submission. parameters: in submitit's names."""
    parameters = {**parameters, "setup": [_own_pickle(folder, token, elements), *parameters.get("setup", [])]}
    if elements > 1:
        parameters["map_count"] = elements
    command = f"{python} -u -m slurm.job_process {shlex.quote(str(folder))}"
    return slurm._make_sbatch_string(command=command, folder=folder, **parameters)


def send(
    work: Sequence[Any], folder: Path, python: str, parameters: dict[str, Any], token: str, max_timeouts: int
) -> str:
    """Send callables, as a job or (several) as an array; returns its id. Raises Refused, InDoubt, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder)  # it checks the parameters' names
    executor.update_parameters(**parameters)
    for number, call in enumerate(work):
        delayed = utils.DelayedSubmission(call)
        delayed.set_timeout(parameters["time"], max_timeouts)
        delayed.dump(_pickle(folder, token, number))
    file = _script(folder, token)
    file.write_text(script(folder, python, parameters, token, len(work)), encoding="utf-8")
    private.tighten(folder)
    job = _sbatch(file)
    take_over(folder, token, job, len(work))
    return job


def take_over(folder: Path, token: str, job: str, elements: int) -> None:
    """Give the files of a submission the names of its job. Files that have them already (also by the job) stay."""
    for number in range(elements):
        name = f"{job}_{number}" if elements > 1 else job
        source, target = _pickle(folder, token, number), folder / f"{name}_submitted.pkl"
        with suppress(FileNotFoundError):
            if not target.exists():  # the job may have taken it itself, and been requeued with another since
                source.replace(target)
        source.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        _script(folder, token).replace(folder / f"{job}_submission.sh")


def clear(folder: Path, token: str) -> None:
    """Remove the files of a submission that was refused."""
    for file in [*folder.glob(f"{token}_*.pkl"), _script(folder, token)]:
        file.unlink(missing_ok=True)


def _sbatch(file: Path) -> str:
    try:
        done = commands.sbatch(file)
    except OSError as error:
        raise Refused(f"sbatch cannot be run: {error.strerror}") from error
    match = re.search(r"job (\d+)", done.stdout)
    if done.returncode == 0 and match:
        return match[1]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.split("sbatch: error:")[-1].strip() for line in lines if "sbatch: error" in line]
    message = (errors or lines[-1:] or [f"sbatch ended with exit code {done.returncode}"])[0]
    if done.returncode > 0 and errors and not any(LOST.search(line) for line in errors):
        raise Refused(message)
    raise InDoubt(next((line for line in errors if LOST.search(line)), message))


def _own_pickle(folder: Path, token: str, elements: int) -> str:
    """A line of the script: the job renames its pickle, in case the sender was killed before it could. It comes before
    the guard of what is loaded (`slurm.private`), which checks the file of that name and does not follow links."""
    job, element = ("${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}", "${SLURM_ARRAY_TASK_ID}")
    if elements == 1:
        job, element = "${SLURM_JOB_ID}", "0"
    source = f"{shlex.quote(str(folder / token))}_{element}.pkl"
    target = f'{shlex.quote(str(folder))}/"{job}_submitted.pkl"'
    return f"ln {source} {target} 2>/dev/null || [ -e {target} ] || cp -p {source} {target} 2>/dev/null || true"


def _pickle(folder: Path, token: str, number: int) -> Path:
    return folder / f"{token}_{number}.pkl"


def _script(folder: Path, token: str) -> Path:
    return folder / f".{token}.sh"
