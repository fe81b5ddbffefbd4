"""The limits and programs of a machine: measured on the login node, and on a compute node by the probe.

The probe is this file as a program: `python -m slurm.health.doctor.machine FOLDER` in a job prints one line of JSON
after a mark, because modules and site scripts may print other lines.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_text
from slurm.health.doctor import safety
from slurm.ray.addresses import interface_address, node_name

MARK = "proxygrm-probe "
PACKAGES = ("torch", "vllm", "verl", "ray", "ms-swift", "transformers", "submitit", "proxygrm-suite")
SHM = Path("/dev/shm")  # noqa: S108 - only its free space is read
SHARED_S = 30.0
"""How long a file may take to be visible on the other node: NFS caches listings for up to half a minute."""


@dataclass(frozen=True)
class Machine:
    name: str
    time: float
    """time.time() of the measurement."""
    open_files: int
    """Soft limit, as jobs inherit it; -1: unlimited, here and below."""
    open_files_hard: int
    """Hard limit, here and below."""
    processes: int
    locked_memory: int
    shm_free_gb: float
    temp_free_gb: float
    python: str
    packages: dict[str, str | None] = field(default_factory=dict)
    """Version of each of PACKAGES; None: not installed."""
    hub_offline: bool = False
    scontrol: bool = False
    gpus: list[str] = field(default_factory=list)
    gpu_problem: str = ""
    interface_problem: str = ""
    shared_problem: str = ""
    """Why the login node's file cannot be read here, or nothing written back; empty when both work."""
    processes_hard: int = -1
    locked_memory_hard: int = -1
    temp_problems: list[str] = field(default_factory=list)
    """Problems of /tmp and TMPDIR with sockets and private files."""
    temp_noexec: bool = False
    """Programs cannot be run from TMPDIR."""
    processes_visible: bool | None = None
    """Whether other users see this user's command lines; None: unknown."""
    curve: bool | None = None
    """Whether ZeroMQ can encrypt; None: not installed."""


def measure(device: str, interface: str) -> Machine:
    open_files, open_files_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, processes_hard = resource.getrlimit(resource.RLIMIT_NPROC)
    locked_memory, locked_memory_hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    gpus, gpu_problem = nvidia() if device == "cuda" else ([], "")
    return Machine(
        name=node_name(),
        time=time.time(),
        open_files=open_files,
        open_files_hard=open_files_hard,
        processes=processes,
        processes_hard=processes_hard,
        locked_memory=locked_memory,
        locked_memory_hard=locked_memory_hard,
        shm_free_gb=shutil.disk_usage(SHM).free / 1e9 if SHM.is_dir() else 0.0,
        temp_free_gb=shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free / 1e9,  # noqa: S108
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        hub_offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
        scontrol=shutil.which("scontrol") is not None,
        gpus=gpus,
        gpu_problem=gpu_problem,
        interface_problem=interface_problem(interface),
        temp_problems=safety.temp_problems(safety.temporary_folders()),
        temp_noexec=safety.no_programs(Path(tempfile.gettempdir())),
        processes_visible=safety.others_see_processes(),
        curve=safety.curve(),
    )


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def nvidia() -> tuple[list[str], str]:
    """(names of the GPUs that the driver lists, why it lists none)"""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return [], "nvidia-smi is not on PATH"
    except subprocess.TimeoutExpired:
        return [], "nvidia-smi did not answer within 60 s"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        return [], (lines or ["nvidia-smi failed"])[-1][:200]
    return lines, "" if lines else "the driver lists no GPU"


def interface_problem(interface: str) -> str:
    """Why the profile's interface cannot be used here; "" when it can, or when none is set."""
    try:
        if interface:
            interface_address(interface)
    except UserError as error:
        return str(error)
    return ""


def answer_through(folder: Path, timeout_s: float = SHARED_S) -> str:
    """Read the login node's file in the folder and write its content to another; why that fails, or ""."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            os.listdir(folder)  # noqa: PTH208 - makes NFS look again
            write_text(folder / "answer", (folder / "question").read_text())
            return ""
        except OSError as error:
            if time.monotonic() > deadline:
                return f"{error.strerror or error}: {error.filename}"
        time.sleep(0.5)


def from_output(text: str) -> Machine | None:
    """The probe's line from all output of a job."""
    for line in text.splitlines():
        if line.startswith(MARK):
            row: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return Machine(**row)
    return None


def main() -> int:
    folder, device, interface = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    machine = asdict(measure(device, interface))
    machine["shared_problem"] = answer_through(folder)
    print(f"\n{MARK}{json.dumps(machine)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
