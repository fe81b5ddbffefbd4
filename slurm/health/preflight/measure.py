"""The measurements of one node, and of its links when the job has several nodes."""

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

SHM = Path("/dev/shm")  # noqa: S108 - only its free space is read
QUERY_S = 30


@dataclass(frozen=True)
class Leader:
    """How the nodes of a job reach rank 0: its address, the port of its clock and that of its store."""

    address: str
    clock: int
    store: int


def measure(
    health: Health, node: Node, *, rank: int, size: int, name: str, address: str, leader: Leader | None, until: float
) -> NodeHealth:
    """Never raises: a problem with the measurement is part of the result.

    leader: None for a job of one node. until: time.monotonic() by which it has to end.
    """
    started = time.monotonic()
    row: dict[str, Any] = {"rank": rank, "node": name}
    try:
        row["stale"] = stale.stale_processes(health.end_stale)
        row["command_output"] = site_check(health.command, until)
        row["shm_free_gb"] = shutil.disk_usage(SHM).free / 1e9
        if leader is not None:
            try:
                row["clock"] = clock_offset(leader.address, leader.clock)
            except OSError as error:
                row["unreachable"] = f"{address} cannot connect to {leader.address}: {error.strerror or error}"
                leader = None
        if node.device == "cpu":
            row["gpus"] = len([g for g in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if g])
        else:
            row["ecc_errors"] = ecc_errors()
        # A single CPU node has nothing to be compared with, and torch takes seconds to import.
        if leader is not None or node.device != "cpu":
            row |= speed(rank, size if leader else 1, leader, node, address, until)
    except Exception as error:
        row["problem"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return NodeHealth(**row, seconds=time.monotonic() - started)


def site_check(command: str, until: float) -> str | None:
    """Run the profile's own check: the last line of its output when it fails, None when it passes or there is none."""
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
        return 0  # a container without it; CUDA itself is tested below
    return sum(int(line) for line in answer.stdout.split() if line.isdigit())


def speed(rank: int, size: int, leader: Leader | None, node: Node, address: str, until: float) -> dict[str, Any]:
    """Run speed.py as a child; what it printed before it failed or was killed counts."""
    timeout_s = max(1.0, until - time.monotonic())
    host, port = (leader.address, leader.store) if leader else ("", 0)
    command = [
        sys.executable,
        "-m",
        "slurm.health.preflight.speed",
        f"--rank={rank}",
        f"--size={size}",
        f"--host={host}",
    ]
    command += [f"--port={port}", f"--device={node.device}", f"--wait-s={timeout_s / 3:.0f}"]
    interface = (node.interface or interface_of(address)) if leader else ""
    variables = {f"{kind}_SOCKET_IFNAME": interface for kind in ("NCCL", "GLOO")} if leader else {}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **variables},
                timeout=timeout_s,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
        output.seek(0)
        errors.seek(0)
        fields = parse_output(output.read().splitlines())
        if code:
            lines = [line for line in errors.read().splitlines() if line.strip()]
            reason = "it did not end in time" if code == -1 else (lines or [f"exit code {code}"])[-1].strip()[:300]
            if "gemm_s" not in fields:
                fields["problem"] = f"matrix product: {reason}"
            else:  # it died while it measured its links: those without a result have failed
                pairs = [pair for round_ in ring_rounds(size) for pair in round_ if rank in pair]
                fields["links_s"] = dict.fromkeys(str(pair[pair[0] == rank]) for pair in pairs) | fields["links_s"]
    return fields


def parse_output(lines: list[str]) -> dict[str, Any]:
    """NodeHealth fields from the output of speed.py; an incomplete line at the end (killed) is skipped."""
    fields: dict[str, Any] = {"links_s": {}, "links_why": {}}
    for line in lines:
        try:
            row: Mapping[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "link" in row:
            fields["links_s"][str(row["link"])] = row["seconds"]
            if row["seconds"] is None:
                fields["links_why"][str(row["link"])] = row["why"]
        else:
            fields |= row
    return fields
