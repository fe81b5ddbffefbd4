"""Checks of a site, an account and folders against other users on the same machines: docs/security.md.

Only modes and owners are read, never the content of files.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from proxygrm.core.files.owner import OTHERS_WRITE, name_of
from slurm.health.doctor.finding import Finding, fail, ok, warn
from slurm.profile import Profile

PLACE = "run folder's location"
LONGEST_TEMP = 60
"""A Unix socket's path has at most 107 characters; programs use up to 45 of them below their temporary folder."""
KEYS_AT_HOME = (".ray/auth_token", ".cache/huggingface/token", ".huggingface/token", ".swanlab/.netrc", ".netrc")
KEYS_OF_RUNS = [f"{'*/' * depth}{name}" for depth in range(5) for name in ("*.key", "token", "api_key", "*secret")]
"""Below the folder for runs. The suite creates them 0600; a copy or a chmod may change that."""


def site_lines(config: Mapping[str, str], partitions: str, profile: Profile) -> Iterator[Finding]:
    """config: of `scontrol show config`; partitions: the text of `scontrol show partition -o`. Pure."""
    scheduler = profile.scheduler
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in partitions.splitlines()]
    names = dict.fromkeys(filter(None, (scheduler.partition, scheduler.cpu_partition)))
    default = [row["PartitionName"] for row in rows if row.get("Default") == "YES"]
    used = set(names if scheduler.partition else [*names, *default])
    used_rows = [row for row in rows if row.get("PartitionName") in used]
    if profile.private_cluster:
        return
    if scheduler.exclusive:
        yield ok("shared nodes", f"the profile requests exclusive nodes (scheduler.exclusive = {scheduler.exclusive})")
    elif config.get("SelectType") == "select/linear":
        yield ok("shared nodes", "this site allocates whole nodes (select/linear)")
    elif used_rows:
        shared = [row["PartitionName"] for row in used_rows if not _is_exclusive(row)]
        if shared:
            yield warn(
                "shared nodes",
                f"jobs of other users may run on the same nodes in {', '.join(shared)}",
                'scheduler.exclusive = "user" prevents it; docs/security.md lists what is protected without it',
            )
        else:
            yield ok("shared nodes", f"no other user's job runs beside yours in {', '.join(sorted(used))}")
    if config:
        yield _tracking(config)


def _is_exclusive(partition: Mapping[str, str]) -> bool:
    return partition.get("OverSubscribe", "").startswith("EXCLUSIVE") or partition.get("ExclusiveUser") == "YES"


def _tracking(config: Mapping[str, str]) -> Finding:
    """Without cgroups a process that leaves its session is not tracked: it outlives its job, and a requeue."""
    kind = config.get("ProctrackType", "")
    if kind in ("proctrack/cgroup", "proctrack/cray_aries"):
        return ok("ended jobs", f"nothing of a job outlives it ({kind})")
    return warn(
        "ended jobs",
        f"processes can outlive their job ({kind or 'no ProctrackType'}); one of an earlier attempt may still write",
        "ask your administrators for ProctrackType=proctrack/cgroup; health.end_stale = true ends those of this suite",
    )


def parse_config(text: str) -> dict[str, str]:
    """Lines `Key = value` of `scontrol show config`."""
    return dict(re.findall(r"^(\w+)\s*= ?(.*?)\s*$", text, re.MULTILINE))


def folder_lines(runs: Path, home: Path, umask: int, user: int) -> Iterator[Finding]:
    """Who may replace the files of runs, and read private ones."""
    yield _place(runs, user)
    if (mode := _mode(home)) and mode & OTHERS_WRITE and home.stat().st_uid == user:
        yield warn(
            "home folder",
            f"others may write to {home} ({stat.filemode(mode)}): files there run in each of your shells",
            f"chmod go-w {home}",
        )
    if not umask & stat.S_IWOTH or (not umask & stat.S_IWGRP and not private_group(user)):
        yield warn(
            "umask",
            f"{umask:03o}: others may write to the files that you create",
            "`umask 027` in your shell's start-up file; jobs inherit it",
        )
    keys = [path for name in KEYS_AT_HOME if (path := home / name).is_file()]
    keys += [path for pattern in KEYS_OF_RUNS for path in sorted(runs.glob(pattern)) if path.is_file()]
    yield from _keys(keys)


def _place(runs: Path, user: int) -> Finding:
    """The run folder and all above it: whoever may rename one of them can replace it."""
    try:
        path = runs.resolve()
        while not path.exists():
            path = path.parent
        for folder in (path, *path.parents):
            status = folder.stat()
            is_run_folder = folder == runs.resolve()
            if status.st_uid not in (0, user):
                detail = f"{folder} belongs to {name_of(status.st_uid)}, who can replace its content"
                remedy = "--run in a folder of your own, if you do not trust them"
                return (fail if is_run_folder else warn)(PLACE, detail, remedy)
            if status.st_mode & OTHERS_WRITE and (is_run_folder or not status.st_mode & stat.S_ISVTX):
                by_all = status.st_mode & stat.S_IWOTH
                who = "every user" if by_all else f"group {_group(status.st_gid)}"
                return (fail if by_all else warn)(
                    PLACE,
                    f"{who} may write to {folder} ({stat.filemode(status.st_mode)}), and so replace its content",
                    f"chmod go-w {folder}, or use another --run",
                )
    except OSError as error:
        return warn(PLACE, f"{runs}: {error.strerror or error}", "choose another with --run")
    return ok(PLACE, "no other user can replace it")


def _keys(paths: Iterable[Path]) -> Iterator[Finding]:
    paths = list(dict.fromkeys(paths))
    readable = [path for path in paths if (mode := _mode(path)) is not None and mode & 0o077]
    if readable:
        more = f" and {len(readable) - 1} more" if len(readable) > 1 else ""
        listed = " ".join(str(path) for path in readable)
        yield warn("keys on disk", f"other users can read {readable[0]}{more}", f"chmod 600 {listed}")
    elif paths:
        yield ok("keys on disk", f"{len(paths)} files with keys that only you can read")


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def private_group(user: int) -> bool:
    """Whether the user's group has no other members, as on Debian and Red Hat, where it has the user's name."""
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return False
    return _group(entry.pw_gid) == entry.pw_name


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def umask_now() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def temp_problems(folders: Iterable[Path]) -> list[str]:
    """Problems of a node's temporary folders with sockets and private files."""
    problems = []
    for folder in dict.fromkeys(folders):
        try:
            status = folder.stat()
        except OSError as error:
            problems.append(f"{folder}: {error.strerror or error}")
            continue
        if status.st_mode & OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            problems.append(f"others can rename and remove your files in {folder}: no sticky bit")
        elif status.st_uid not in (0, os.geteuid()):
            problems.append(f"{folder} belongs to {name_of(status.st_uid)}, who can replace your files in it")
        elif not os.access(folder, os.W_OK | os.X_OK):
            problems.append(f"you cannot write to {folder}")
        elif len(str(folder)) > LONGEST_TEMP:
            problems.append(
                f"{folder} is longer than {LONGEST_TEMP} characters: the paths of sockets in it become too long"
            )
    return problems


def no_programs(folder: Path) -> bool:
    """Whether the file system is mounted noexec."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def temporary_folders() -> list[Path]:
    """Ray's sockets are in /tmp, a job's other temporary files in TMPDIR."""
    return [Path("/tmp"), Path(tempfile.gettempdir())]  # noqa: S108 - they are only checked


def others_see_processes(mounts: str | None = None) -> bool | None:
    """Whether other users see this user's command lines: /proc without hidepid. None: unknown."""
    try:
        text = mounts if mounts is not None else Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    hidden = None
    for line in text.splitlines():
        words = line.split()
        if len(words) > 6 and words[4] == "/proc":
            options = ",".join([words[5], words[-1]])
            hidden = re.search(r"hidepid=(?!0|off)\w+", options) is not None
    return None if hidden is None else not hidden


def curve() -> bool | None:
    """Whether ZeroMQ can encrypt here; None where it is not installed."""
    try:
        import zmq
    except ImportError:
        return None
    return bool(zmq.has("curve"))
