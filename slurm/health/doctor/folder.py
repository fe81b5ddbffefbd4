"""Is the folder runs go to fit for them: space, inodes, quota, locks, a real write?"""

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
"""Options of Lustre and NFS mounts under which flock answers, and tells other hosts nothing."""
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
    """Lines about what is over its quota."""


def measure(folder: Path) -> Space:
    """folder: is made where it is missing. Raises OSError when that cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    found = os.statvfs(folder)
    inodes = found.f_favail if found.f_files else None
    speed, write_problem, lock_problem = 0.0, "", ""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            started = time.monotonic()
            for _ in range(WRITE_MB):
                file.write(b"\0" * (1 << 20))
            file.flush()
            os.fsync(file.fileno())
            speed = WRITE_MB / max(1e-6, time.monotonic() - started)
        lock_problem = locks(folder)
    except OSError as error:
        write_problem = "over your quota" if error.errno == errno.EDQUOT else error.strerror or str(error)
    return Space(
        file_system(folder),
        found.f_bavail * found.f_frsize / 1e9,
        inodes,
        speed,
        write_problem,
        lock_problem,
        over_quota(),
    )


def locks(folder: Path, mounts: str | None = None) -> str:
    """What is wrong with flock there, "" for nothing."""
    missing = lock.flock_missing(folder)
    local = LOCAL_LOCKS.intersection(mount_of(folder, mounts)[1])
    return missing or (f"{', '.join(sorted(local))}: a lock is seen by its own host only" if local else "")


def file_system(folder: Path, mounts: str | None = None) -> str:
    """Type of the file system a folder is on, as /proc/mounts names it (nfs4, lustre, gpfs, ext4, ...)."""
    return mount_of(folder, mounts)[0]


def mount_of(folder: Path, mounts: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Type and options of the file system a folder is on, as /proc/mounts names them."""
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
    """What `quota` says is over its limit; nothing where there is no such command or no quota."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(["quota", "-w"], capture_output=True, text=True, timeout=30)
        return parse_quota(answer.stdout)
    return ()


def parse_quota(text: str) -> tuple[str, ...]:
    """File systems whose blocks or files column bears the star that means: over the limit."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and any(re.fullmatch(r"\d+\*", word) for word in words[1:]):
            found.append(words[0])
    return tuple(found)


def judge(space: Space, folder: Path, device: str) -> list[Finding]:
    if space.write_problem:
        return [
            fail(
                "run folder", f"{folder} cannot be written to: {space.write_problem}", "free space, or --run elsewhere"
            )
        ]
    enough, least = GB[device]
    said = f"{space.free_gb:,.0f} GB free in {folder} ({space.kind}), {space.write_mb_s:,.0f} MB/s"
    remedy = f"free space, or --run elsewhere; below {enough:g} GB a training may fill it"
    grade = fail if space.free_gb < least else warn
    findings = [ok("space", said) if space.free_gb >= enough else grade("space", said, remedy)]
    if space.free_inodes is not None:
        counted = f"{space.free_inodes:,} files may still be made"
        grade = fail if space.free_inodes < INODES[1] else warn
        few = space.free_inodes < INODES[0]
        findings.append(
            grade("files", counted, "remove old runs; a run makes some thousands") if few else ok("files", counted)
        )
    findings += [fail("quota", f"over its limit on {name}", "`quota` shows it; remove files") for name in space.quota]
    if space.lock_problem:
        findings.append(
            warn(
                "locks",
                f"flock in {folder}: {space.lock_problem}",
                "ask for `-o flock` (Lustre) or local_lock=none (NFS); without flock lock files are used, and one left "
                "by a process of another host has to be removed by hand",
            )
        )
    return findings
