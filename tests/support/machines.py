"""A machine as `doctor` measures it."""

from __future__ import annotations

from pathlib import Path

from slurm.health.doctor import machine
from slurm.health.doctor.machine import Machine
from slurm.profile import Health, Node, Profile

VERSIONS: dict[str, str | None] = dict.fromkeys(machine.PACKAGES, "1.0")

NODE = Machine("n1", 1000.0, 65536, 65536, 100_000, -1, 500.0, 800.0, "3.11.7", VERSIONS, True, True, ["H100, 80 GB"])

CUDA = Profile("site", node=Node(interface="ib0"), health=Health(min_shm_gb=16))

RUNS = Path("/shared/runs")
