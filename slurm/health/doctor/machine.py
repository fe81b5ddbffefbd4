"""What a machine gives a process: measured on the login node, and by the probe on a compute node.

As a program it is that probe: `python -m slurm.health.doctor.machine FOLDER` in a job prints one line of JSON after a
mark, because modules and site scripts may print around it.
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
SHM = Path("/dev/shm")  # noqa: S108 - it is looked at, nothing is written there
SHARED_S = 30.0
"""How long a file may take to be seen on the other side: NFS caches listings for up to half a minute."""


@dataclass(frozen=True)
class Machine:
    name: str
    time: float
    """time.time() when it was asked."""
    open_files: int
    """Soft limit of this process, as jobs inherit it; -1: unlimited, here and below."""
    open_files_most: int
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
    """Why the file that the login node wrote cannot be read here, or nothing written back."""
    processes_most: int = -1
    """Hard limit, here and below."""
    locked_memory_most: int = -1
    temp_problems: list[str] = field(default_factory=list)
    """What is wrong with /tmp and TMPDIR for sockets and private files."""
    temp_noexec: bool = False
    """Nothing can be run from TMPDIR."""
    processes_seen: bool | None = None
    """Whether other users see the command lines of this one's; None: it cannot be told."""
    curve: bool | None = None
    """Whether ZeroMQ can encrypt; None: not installed."""


def look(device: str, interface: str) -> Machine:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    gpus, gpu_problem = nvidia() if device == "cuda" else ([], "")
    return Machine(
        name=node_name(),
        time=time.time(),
        open_files=files,
        open_files_most=most,
        processes=resource.getrlimit(resource.RLIMIT_NPROC)[0],
        locked_memory=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        processes_most=resource.getrlimit(resource.RLIMIT_NPROC)[1],
        locked_memory_most=resource.getrlimit(resource.RLIMIT_MEMLOCK)[1],
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
        processes_seen=safety.others_see_processes(),
        curve=safety.curve(),
    )


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def nvidia() -> tuple[list[str], str]:
    """Names of the GPUs the driver shows, and why it shows none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return [], "nvidia-smi is not on PATH"
    except subprocess.TimeoutExpired:
        return [], "nvidia-smi did not answer within 60 s"
    lines = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode:
        return [], (lines or ["nvidia-smi failed"])[-1][:200]
    return lines, "" if lines else "the driver shows no GPU"


def interface_problem(interface: str) -> str:
    """Why the profile's interface cannot be used here; nothing when it can, or when none is named."""
    try:
        if interface:
            interface_address(interface)
    except UserError as error:
        return str(error)
    return ""


def answer_through(folder: Path, seconds: float = SHARED_S) -> str:
    """Read what the login node wrote into the folder and write it back under another name; why not, or nothing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.listdir(folder)  # noqa: PTH208 - makes NFS look again
            word = (folder / "question").read_text()
            write_text(folder / "answer", word)
            return ""
        except OSError as error:
            if time.monotonic() > deadline:
                return f"{error.strerror or error}: {error.filename}"
        time.sleep(0.5)


def from_output(text: str) -> Machine | None:
    """The probe's line out of everything a job printed."""
    for line in text.splitlines():
        if line.startswith(MARK):
            row: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return Machine(**row)
    return None


def main() -> int:
    folder, device, interface = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    machine = asdict(look(device, interface))
    machine["shared_problem"] = answer_through(folder)
    print(f"\n{MARK}{json.dumps(machine)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
