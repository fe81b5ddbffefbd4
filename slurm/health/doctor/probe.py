"""A job of seconds on one compute node: is the folder shared with it, and does it match the profile?"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from slurm import commands
from slurm.environment import REPOSITORY, python_command, setup_lines
from slurm.health.doctor import machine
from slurm.health.doctor.finding import Finding, fail, ok, warn
from slurm.health.doctor.machine import Machine
from slurm.profile import Profile

MINUTES = 3
PACKAGES_NEEDED = ("torch", "vllm", "verl", "ray", "ms-swift")


@dataclass(frozen=True)
class Answer:
    """node: None where the probe did not run, for the reason in `problem`. answered: the login node saw its file."""

    node: Machine | None
    problem: str = ""
    not_started: bool = False
    """No node was free in time; nothing is wrong."""
    answered: bool = False
    clock: tuple[float, float] = (0.0, 0.0)
    """The login node's clock before and after."""


def command(profile: Profile, folder: Path, wait_s: int) -> list[str]:
    """The srun that runs the probe as jobs run Python: the profile's shell lines, then srun with its container."""
    scheduler, node = profile.scheduler, profile.node
    options = {
        "partition": scheduler.partition,
        "account": scheduler.account,
        "qos": scheduler.qos,
        "constraint": scheduler.constraint,
        "reservation": scheduler.reservation,
        "exclude": scheduler.exclude,
        **scheduler.sbatch,
    }
    if node.gpus:
        options["gpus-per-node"] = f"{node.gpu_type}:1" if node.gpu_type else "1"
    words = [
        "srun",
        "--quiet",
        "--job-name=proxygrm-doctor",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--mem=4G",
    ]
    words += [f"--time={MINUTES}", f"--immediate={wait_s}"]
    words += [f"--{key}={value}" for key, value in options.items() if value]
    if scheduler.exclusive:
        words.append("--exclusive" if scheduler.exclusive == "node" else f"--exclusive={scheduler.exclusive}")
    inner = " ".join(
        [
            f"srun --quiet --overlap --nodes=1 --ntasks=1 {python_command(profile, folder)}",
            "-m slurm.health.doctor.machine",
            *(shlex.quote(word) for word in (str(folder), node.device, node.interface)),
        ]
    )
    script = "\n".join([*setup_lines(profile), f"cd {shlex.quote(str(REPOSITORY))} || exit 1", inner])
    return [*words, "bash", "-c", script]


def run(profile: Profile, runs: Path, wait_s: int) -> Answer:
    """runs: the folder to be shared; a hidden folder is created there for the probe and removed."""
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=runs)).absolute()
    token = secrets.token_hex(8)
    try:
        (folder / "question").write_text(token)
        started = time.time()
        try:
            done = commands.answer(*command(profile, folder, wait_s), timeout_s=wait_s + MINUTES * 60 + 60)
        except commands.NoAnswer as error:
            return Answer(None, str(error))
        clock = (started, time.time())
        node = machine.from_output(done.stdout)
        if node is None:
            return _no_answer(done)
        return Answer(node, clock=clock, answered=not node.shared_problem and _answered(folder, token))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _no_answer(done: subprocess.CompletedProcess[str]) -> Answer:
    """With the line that explains it best: SLURM's own error, else the last line of the program."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    slurm = [line.split("error:", 1)[1].strip() for line in lines if line.startswith("srun: error:")]
    program = [line for line in lines if not line.startswith("srun:")]
    # "Immediate execution impossible" and similar: the nodes are busy.
    if any("mmediate" in line or "Requested nodes are busy" in line for line in lines):
        return Answer(None, "no node was free in time", not_started=True)
    candidates = program or slurm or lines or [f"exit code {done.returncode}"]
    if not program and slurm and not slurm[0].startswith(("task", os.uname().nodename)):
        candidates = slurm[:1]
    return Answer(None, candidates[-1][:300])


def _answered(folder: Path, token: str) -> bool:
    deadline = time.monotonic() + machine.SHARED_S
    while time.monotonic() < deadline:
        os.listdir(folder)  # noqa: PTH208 - makes NFS look again
        if (folder / "answer").exists():
            return (folder / "answer").read_text() == token
        time.sleep(0.2)
    return False


def judge(answer: Answer, login: Machine, profile: Profile, runs: Path) -> list[Finding]:
    """Pure: the node's measurements, compared with the login node and the profile."""
    node, health = answer.node, profile.health
    if node is None:
        if answer.not_started:
            return [
                warn(
                    "probe job", answer.problem, "nodes were not checked. Try again, with --wait 600, or --reservation"
                )
            ]
        return [fail("probe job", answer.problem, "`--debug` shows the command; the same options fail in real jobs")]
    findings = [ok("probe job", f"ran on {node.name} ({answer.clock[1] - answer.clock[0]:.0f} s)")]
    if node.shared_problem or not answer.answered:
        reason = node.shared_problem or "the login node does not see the file that the node wrote"
        findings.append(
            fail("shared folder", f"{runs}: {reason}", "--run must be on a file system that all nodes share")
        )
    else:
        findings.append(ok("shared folder", f"{runs} is read and written on both nodes"))
    missing = [name for name in PACKAGES_NEEDED if not node.packages.get(name)]
    differ = [n for n, v in node.packages.items() if v and login.packages.get(n) and v != login.packages[n]]
    if missing:
        remedy = "install them there (make setup), or set environment.python, venv or [container]"
        findings.append(fail("python", f"{node.python}; missing on {node.name}: {', '.join(missing)}", remedy))
    elif differ:
        pairs = ", ".join(f"{n} {node.packages[n]} (here {login.packages[n]})" for n in differ)
        findings.append(
            warn("python", f"other versions than on the login node: {pairs}", "use one environment for both")
        )
    else:
        findings.append(
            ok("python", f"{node.python} with torch {node.packages['torch']}, vllm {node.packages['vllm']}")
        )
    if not node.scontrol:
        findings.append(
            fail(
                "SLURM in jobs",
                "scontrol is not on PATH there",
                "mount SLURM's client into the container: jobs requeue",
            )
        )
    if node.hub_offline:
        findings.append(ok("no internet", "HF_HUB_OFFLINE is set in jobs"))
    else:
        findings.append(
            warn("no internet", "jobs may try to reach the model hub", 'environment.variables: HF_HUB_OFFLINE = "1"')
        )
    if profile.node.device == "cuda":
        if node.gpu_problem:
            findings.append(
                fail("GPUs", f"on {node.name}: {node.gpu_problem}", "ask your administrators; exclude the node")
            )
        else:
            findings.append(ok("GPUs", node.gpus[0]))
    if node.interface_problem:
        findings.append(fail("interface", node.interface_problem, "correct node.interface in the profile"))
    return findings + limits(node, profile) + _other_users(node) + [_clock(answer, node, health.max_clock_skew_s)]


def _other_users(node: Machine) -> list[Finding]:
    """What other users on the node could do and see."""
    remedy = "ask your administrators, or set TMPDIR to a short path that only you can write (environment.setup)"
    findings = [fail("temporary files", f"on {node.name}: {problem}", remedy) for problem in node.temp_problems]
    if node.temp_noexec:
        detail = f"on {node.name}: programs in the temporary folder cannot be run (noexec); kernels are compiled there"
        findings.append(warn("temporary files", detail, "environment.setup: export TMPDIR=/a/folder/of/your/own"))
    if node.curve is False:
        findings.append(
            fail(
                "pyzmq", f"on {node.name}: without CURVE, so RL does not start", "install pyzmq from its wheel on PyPI"
            )
        )
    if node.processes_visible is not None:
        detail = (
            "see command lines; no key is in one" if node.processes_visible else "do not see your processes (hidepid)"
        )
        findings.append(ok("other users", f"on {node.name} {detail}"))
    return findings


def _raise_limit(option: str, target: int | str, soft: int, hard: int) -> str:
    """The remedy for a limit: a job can raise it up to the hard limit. -1: unlimited."""
    if hard == soft:
        return f"ask your administrators: {soft} is also the hard limit, which jobs cannot raise (ulimit {option})"
    if hard < 0 or (isinstance(target, int) and target <= hard):
        return f"environment.setup: ulimit {option} {target}"
    return f"environment.setup: ulimit {option} {hard} (the hard limit; ask your administrators for {target})"


def limits(node: Machine, profile: Profile) -> list[Finding]:
    """The limits of jobs on a node: open files, processes, locked memory, /dev/shm, the temporary folder."""
    findings = []
    locked = node.locked_memory
    if 0 <= node.open_files < 4096:
        grade = fail if 0 <= node.open_files_hard < 4096 else warn
        findings.append(
            grade(
                "open files",
                f"at most {node.open_files} (hard limit {node.open_files_hard})",
                _raise_limit("-n", 65536, node.open_files, node.open_files_hard),
            )
        )
    if 0 <= node.processes < 4096:
        findings.append(
            warn(
                "processes",
                f"at most {node.processes}",
                f"{_raise_limit('-u', 65536, node.processes, node.processes_hard)} (Ray needs threads)",
            )
        )
    if profile.node.device == "cuda" and profile.node.interface and 0 <= locked < 1 << 30:
        findings.append(
            warn(
                "locked memory",
                f"at most {locked >> 10} KB",
                f"RDMA needs it unlimited: {_raise_limit('-l', 'unlimited', locked, node.locked_memory_hard)}",
            )
        )
    if node.shm_free_gb < profile.health.min_shm_gb:
        findings.append(
            fail(
                "shared memory",
                f"{node.shm_free_gb:.1f} GB free in /dev/shm",
                f"{profile.health.min_shm_gb:g} GB required (health.min_shm_gb)",
            )
        )
    if node.temp_free_gb < 5:
        findings.append(
            warn(
                "temporary folder", f"{node.temp_free_gb:.1f} GB free", "set TMPDIR to a folder on a larger local disk"
            )
        )
    return findings or [ok("limits", f"{node.shm_free_gb:.0f} GB in /dev/shm, {_count(node.open_files)} open files")]


def _count(number: int) -> str:
    return "unlimited" if number < 0 else str(number)


def _clock(answer: Answer, node: Machine, allowed_s: float) -> Finding:
    """The node read its clock between the two times of the login node's clock."""
    before, after = answer.clock
    skew = min(node.time - before, 0.0) or max(node.time - after, 0.0)
    if abs(skew) > allowed_s:
        return warn("clock", f"{node.name} is {skew:+.0f} s off", "ask your administrators for NTP")
    return ok("clock", f"{node.name} agrees with this one")
