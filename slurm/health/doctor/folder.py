"""Checks of the folder for runs: space, inodes, quota, locks, a real write."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.files import lock
from slurm.health.doctor.finding import Finding, fail, ok, warn

WRITE_MB = 32
LOCAL_KINDS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "ramfs"}
LOCAL_LOCKS = {"localflock", "nolock", "local_lock=flock", "local_lock=all"}
"""Options of Lustre and NFS mounts with which flock succeeds, and other hosts do not see the lock."""
GB = {"cuda": (500.0, 100.0), "cpu": (5.0, 1.0)}
"""Free space below which it warns and fails. A 7B RL checkpoint with its optimiser state is about 100 GB."""
INODES = (100_000, 5_000)


@dataclass(frozen=True)
class Space:
    """free_inodes None: the file system does not count them."""

    kind: str
    free_gb: float
    free_inodes: int | None
    write_mb_s: float = 0.0
    write_problem: str = ""
    lock_problem: str = ""
    quota: tuple[str, ...] = ()
    """File systems on which the quota is exceeded."""


def measure(folder: Path) -> Space:
    """folder: created where it is missing. Raises OSError when that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    status = os.statvfs(folder)
    inodes = status.f_favail if status.f_files else None
    speed, write_problem, lock_problem = 0.0, "", ""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            started = time.monotonic()
            for _ in range(WRITE_MB):
                file.write(b"\0" * (1 << 20))
            file.flush()
            os.fsync(file.fileno())
            speed = WRITE_MB / max(1e-6, time.monotonic() - started)
        lock_problem = flock_problem(folder)
    except OSError as error:
        write_problem = "over your quota" if error.errno == errno.EDQUOT else error.strerror or str(error)
    return Space(
        file_system(folder),
        status.f_bavail * status.f_frsize / 1e9,
        inodes,
        speed,
        write_problem,
        lock_problem,
        over_quota(),
    )


def flock_problem(folder: Path, mounts: str | None = None) -> str:
    """What is wrong with flock there; "" when it works."""
    missing = lock.flock_missing(folder)
    local = LOCAL_LOCKS.intersection(mount_of(folder, mounts)[1])
    return missing or (f"{', '.join(sorted(local))}: only its own host sees a lock" if local else "")


def file_system(folder: Path, mounts: str | None = None) -> str:
    """Type of a folder's file system, as in /proc/mounts (nfs4, lustre, gpfs, ext4, ...)."""
    return mount_of(folder, mounts)[0]


def mount_of(folder: Path, mounts: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Type and options of a folder's file system, as in /proc/mounts."""
    text = mounts if mounts is not None else Path("/proc/mounts").read_text()
    best, kind, options = "", "?", ""
    where = str(folder.resolve())
    for line in text.splitlines():
        parts = line.split()
        if len(parts) < 4:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), parts[1])
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind, options = point, parts[2], parts[3]
    return kind, tuple(options.split(","))


def over_quota() -> tuple[str, ...]:
    """File systems on which `quota` reports an exceeded limit; none without that command or a quota."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["quota", "-w"], capture_output=True, text=True, timeout=30)
        return parse_quota(done.stdout)
    return ()


def parse_quota(text: str) -> tuple[str, ...]:
    """File systems whose blocks or files column has the star that means: over the limit."""
    names = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and any(re.fullmatch(r"\d+\*", word) for word in words[1:]):
            names.append(words[0])
    return tuple(names)


def judge(space: Space, folder: Path, device: str) -> list[Finding]:
    if space.write_problem:
        return [
            fail(
                "run folder",
                f"{folder} cannot be written to: {space.write_problem}",
                "free space, or use another --run",
            )
        ]
    enough, least = GB[device]
    detail = f"{space.free_gb:,.0f} GB free in {folder} ({space.kind}), {space.write_mb_s:,.0f} MB/s"
    remedy = f"free space, or use another --run; with less than {enough:g} GB a training may fill it"
    grade = fail if space.free_gb < least else warn
    findings = [ok("space", detail) if space.free_gb >= enough else grade("space", detail, remedy)]
    if space.free_inodes is not None:
        counted = f"{space.free_inodes:,} more files can be created"
        grade = fail if space.free_inodes < INODES[1] else warn
        few = space.free_inodes < INODES[0]
        findings.append(
            grade("files", counted, "remove old runs; a run creates some thousands") if few else ok("files", counted)
        )
    findings += [fail("quota", f"over its limit on {name}", "`quota` shows it; remove files") for name in space.quota]
    if space.lock_problem:
        findings.append(
            warn(
                "locks",
                f"flock in {folder}: {space.lock_problem}",
                "ask for `-o flock` (Lustre) or local_lock=none (NFS); without flock, lock files are used, and "
                "one left by a process of another host has to be removed by hand",
            )
        )
    return findings
