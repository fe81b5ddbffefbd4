"""Processes of a private cluster: start them, find them again, end them, and touch no others.

Every daemon is started with a mark in its environment, `<cluster id>/<daemon name>`, where the id is random and belongs
to one folder. A process with that mark is the cluster's. Unlike a file with a pid, the mark cannot be lost in a crash,
go stale, or name another process after a reboot. slurmstepd inherits the mark from slurmd; the programs of a job do not
(SLURM builds their environment from the submission's).

Daemons outlive the command that starts them, so they are not `ChildProcess`es.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "PROXYGRM_LOCAL_SLURM"


@dataclass(frozen=True)
class Process:
    """pid and start time (clock ticks since boot) name one process; `name` is the mark's second part."""

    pid: int
    started: int
    parent: int
    command: str
    name: str = ""


_children: list[subprocess.Popen[bytes]] = []


def spawn(argv: list[str], *, env: dict[str, str], output: Path, folder: Path) -> None:
    """Start a daemon in its own session; its standard output and errors are appended to `output`."""
    with output.open("ab") as log:
        child = subprocess.Popen(
            argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, umask=0o022,
        )  # fmt: skip
    _children.append(child)


def _reap() -> None:
    """A long-lived caller (pytest) is the parent of the daemons: those that ended must not remain as zombies."""
    _children[:] = [child for child in _children if child.poll() is None]


def _stat(pid: int) -> tuple[str, str, int, int] | None:
    """(command, state, parent, start time) or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    command, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return command, rest[0], int(rest[1]), int(rest[19])


def _own_processes() -> Iterator[tuple[Process, dict[str, str]]]:
    """Every live process of this user with its initial environment, except those that end meanwhile."""
    user = os.getuid()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != user:
                continue
            raw = Path(entry.path, "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        stat = _stat(int(entry.name))
        if stat is None or stat[1] in "ZX":
            continue
        pairs = (item.split("=", 1) for item in raw.decode(errors="replace").split("\0") if "=" in item)
        yield Process(int(entry.name), stat[3], stat[2], stat[0]), dict(pairs)


def alive(process: Process) -> bool:
    _reap()
    stat = _stat(process.pid)
    return stat is not None and stat[1] not in "ZX" and stat[3] == process.started


def marked(cluster_id: str) -> list[Process]:
    """All processes with this cluster's mark: daemons, their helpers and slurmstepds."""
    _reap()
    result = []
    for process, environment in _own_processes():
        owner, _, name = environment.get(MARK, "").partition("/")
        if owner == cluster_id:
            result.append(Process(process.pid, process.started, process.parent, process.command, name))
    return result


def daemons(cluster_id: str) -> dict[str, Process]:
    """The cluster's daemons by name; of several with one mark (a fork before its exec) the oldest."""
    result: dict[str, Process] = {}
    for process in sorted(marked(cluster_id), key=lambda p: (p.started, p.pid)):
        kind = process.name if process.name in ("munged", "mariadbd", "slurmdbd", "slurmctld") else "slurmd"
        if process.command == kind:
            result.setdefault(process.name, process)
    return result


def job_processes(cluster_id: str, conf: Path) -> list[Process]:
    """slurmstepds of this cluster, all their descendants, and orphans of its jobs.

    An orphan is recognised by a variable that only slurmd sets, for a job's programs (SLURMD_NODENAME), together with
    this cluster's SLURM_CONF; a shell that merely exported SLURM_CONF is not one.
    """
    own = list(_own_processes())
    everything = [process for process, _ in own]
    roots = {
        process.pid
        for process, environment in own
        if (process.command == "slurmstepd" and environment.get(MARK, "").startswith(f"{cluster_id}/"))
        or (
            environment.get("SLURM_CONF") == str(conf)
            and "SLURM_JOB_ID" in environment
            and "SLURMD_NODENAME" in environment
        )
    }
    spared = {os.getpid(), os.getppid()}
    return [process for process in _with_descendants(everything, roots) if process.pid not in spared]


def abandoned_steps(cluster_id: str, daemon: str, running: set[int]) -> list[Process]:
    """slurmstepds of one node, and their descendants, whose job the controller does not count as running there.

    They outlive a slurmd that was killed. Once the controller has requeued their job, a new slurmd would end them and
    at the same time refuse the job's next start on this node ("already killed, do not launch").
    """
    everything = [process for process, _ in _own_processes()]
    roots = {
        process.pid
        for process in marked(cluster_id)
        if process.command == "slurmstepd" and process.name == daemon and _job_of_step(process) not in running
    }
    return _with_descendants(everything, roots)


def _job_of_step(process: Process) -> int | None:
    """From slurmstepd's process title, `slurmstepd: [JOB.STEP]`."""
    try:
        title = Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace")
    except OSError:
        return None
    match = re.search(r"\[(\d+)\.", title)
    return int(match[1]) if match else None


def _with_descendants(everything: list[Process], roots: set[int]) -> list[Process]:
    pids, children = set(roots), set(roots)
    while children:
        children = {process.pid for process in everything if process.parent in pids} - pids
        pids |= children
    return [process for process in everything if process.pid in pids]


def send(process: Process, number: signal.Signals) -> None:
    if alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def wait_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Those still alive after at most `seconds`."""
    remaining, deadline = list(processes), time.monotonic() + seconds
    while remaining := [process for process in remaining if alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return remaining


def stop(processes: Iterable[Process], seconds: float) -> None:
    """SIGTERM to all of them, SIGKILL to those that have not ended within `seconds`."""
    processes = list(processes)
    terminate(processes)
    kill(wait_gone(processes, seconds))


def terminate(processes: Iterable[Process]) -> None:
    for process in processes:
        send(process, signal.SIGTERM)


def kill(processes: Iterable[Process]) -> None:
    processes = list(processes)
    for process in processes:
        send(process, signal.SIGKILL)
    wait_gone(processes, 2.0)


def memory_mb(pid: int) -> float:
    """Proportional share of memory (PSS), so that the sum over daemons counts shared libraries once."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:  # no such kernel feature, or it has just ended
        return 0.0
    return 0.0
