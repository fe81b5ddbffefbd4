"""What one node measures of itself, and of its links when the job has several nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.health.preflight import stale
from slurm.health.preflight.clock import clock_offset
from slurm.health.preflight.judge import ring_rounds
from slurm.health.preflight.record import NodeHealth
from slurm.profile import Health, Node
from slurm.ray.addresses import interface_of

SHM = Path("/dev/shm")  # noqa: S108 - it is looked at, nothing is written there
QUERY_S = 30


@dataclass(frozen=True)
class Meet:
    """Where the nodes of a job find rank 0: its address, its clock's port and the port of its store."""

    address: str
    clock: int
    store: int


def measure(
    health: Health, node: Node, *, rank: int, size: int, name: str, address: str, meet: Meet | None, until: float
) -> NodeHealth:
    """Never raises: what kept the node from measuring is part of what it says.

    meet: None for a job of one node. until: time.monotonic() by which everything has to be said.
    """
    started = time.monotonic()
    row: dict[str, Any] = {"rank": rank, "node": name}
    try:
        row["stale"] = stale.here(health.end_stale)
        row["command_said"] = site_check(health.command, until)
        row["shm_free_gb"] = shutil.disk_usage(SHM).free / 1e9
        if meet is not None:
            try:
                row["clock"] = clock_offset(meet.address, meet.clock)
            except OSError as error:
                row["unreachable"] = f"{address} cannot call {meet.address}: {error.strerror or error}"
                meet = None
        if node.device == "cpu":
            row["gpus"] = len([g for g in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if g])
        else:
            row["ecc_errors"] = ecc_errors()
        # One CPU node has nobody to be compared with, and torch takes seconds to import.
        if meet is not None or node.device != "cpu":
            row |= speed(rank, size if meet else 1, meet, node, address, until)
    except Exception as error:
        row["problem"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return NodeHealth(**row, seconds=time.monotonic() - started)


def site_check(command: str, until: float) -> str | None:
    """Runs the profile's own check; its last words when it fails, None when it passes or there is none."""
    if not command:
        return None
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=max(1.0, until - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        return "it did not end in time"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return (lines or [f"exit code {done.returncode}"])[-1][:300]


def ecc_errors() -> int:
    """Uncorrected errors of the job's GPUs since the driver was loaded; 0 where the driver does not count them."""
    query = ["nvidia-smi", "--query-gpu=ecc.errors.uncorrected.volatile.total", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query += ["-i", visible]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_S)
    except FileNotFoundError:
        return 0  # a container without it; CUDA itself is asked below
    return sum(int(line) for line in answer.stdout.split() if line.isdigit())


def speed(rank: int, size: int, meet: Meet | None, node: Node, address: str, until: float) -> dict[str, Any]:
    """Runs speed.py as a child; what it printed before it failed or was killed counts."""
    left = max(1.0, until - time.monotonic())
    host, port = (meet.address, meet.store) if meet else ("", 0)
    command = [
        sys.executable,
        "-m",
        "slurm.health.preflight.speed",
        f"--rank={rank}",
        f"--size={size}",
        f"--host={host}",
    ]
    command += [f"--port={port}", f"--device={node.device}", f"--wait-s={left / 3:.0f}"]
    interface = (node.interface or interface_of(address)) if meet else ""
    environment = {**os.environ, **({f"{kind}_SOCKET_IFNAME": interface for kind in ("NCCL", "GLOO")} if meet else {})}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=errors, env=environment, timeout=left
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
        said.seek(0)
        errors.seek(0)
        found = gathered(said.read().splitlines())
        if code:
            lines = [line for line in errors.read().splitlines() if line.strip()]
            why = "it did not end in time" if code == -1 else (lines or [f"exit code {code}"])[-1].strip()[:300]
            if "gemm_s" not in found:
                found["problem"] = f"matrix product: {why}"
            else:  # it died among its links: those it could not tell of did not come about
                missing = {str(pair[pair[0] == rank]) for pairs in ring_rounds(size) for pair in pairs if rank in pair}
                found["links_s"] = dict.fromkeys(missing) | found["links_s"]
    return found


def gathered(lines: list[str]) -> dict[str, Any]:
    """NodeHealth fields out of what speed.py printed; a half line at the end (killed) is left out."""
    found: dict[str, Any] = {"links_s": {}, "links_why": {}}
    for line in lines:
        try:
            row: Mapping[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "link" in row:
            found["links_s"][str(row["link"])] = row["seconds"]
            if row["seconds"] is None:
                found["links_why"][str(row["link"])] = row["why"]
        else:
            found |= row
    return found
