"""What a site, an account or a folder can have wrong with other users on the same machines: docs/security.md.

Only modes and owners are looked at, never what a file holds.
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

PLACE = "run folder's place"
LONGEST_TEMP = 60
"""A Unix socket's path has 107 characters; what programs put below their temporary folder takes up to 45 of them."""
KEYS_AT_HOME = (".ray/auth_token", ".cache/huggingface/token", ".huggingface/token", ".swanlab/.netrc", ".netrc")
KEYS_OF_RUNS = [f"{'*/' * depth}{name}" for depth in range(5) for name in ("*.key", "token", "api_key", "*secret")]
"""Below the folder that runs go to; the suite makes them 0600, and a copy or a chmod may not keep that."""


def site_lines(config: Mapping[str, str], partitions: str, profile: Profile) -> Iterator[Finding]:
    """config: of `scontrol show config`; partitions: the text of `scontrol show partition -o`. Pure."""
    scheduler = profile.scheduler
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in partitions.splitlines()]
    names = dict.fromkeys(filter(None, (scheduler.partition, scheduler.cpu_partition)))
    default = [row["PartitionName"] for row in rows if row.get("Default") == "YES"]
    wanted = set(names if scheduler.partition else [*names, *default])
    found = [row for row in rows if row.get("PartitionName") in wanted]
    if profile.private_cluster:
        return
    if scheduler.exclusive:
        yield ok("shared nodes", f"the profile asks for nodes of its own (scheduler.exclusive = {scheduler.exclusive})")
    elif config.get("SelectType") == "select/linear":
        yield ok("shared nodes", "this site gives whole nodes to a job (select/linear)")
    elif found:
        shared = [row["PartitionName"] for row in found if not _alone(row)]
        if shared:
            yield warn(
                "shared nodes",
                f"jobs of other users may run on the same nodes in {', '.join(shared)}",
                'scheduler.exclusive = "user" keeps them off; docs/security.md says what is guarded without it',
            )
        else:
            yield ok("shared nodes", f"no other user's job runs beside yours in {', '.join(sorted(wanted))}")
    if config:
        yield _tracking(config)


def _alone(partition: Mapping[str, str]) -> bool:
    return partition.get("OverSubscribe", "").startswith("EXCLUSIVE") or partition.get("ExclusiveUser") == "YES"


def _tracking(config: Mapping[str, str]) -> Finding:
    """Without cgroups a process that leaves its session is nobody's: it outlives its job, and a requeue."""
    kind = config.get("ProctrackType", "")
    if kind in ("proctrack/cgroup", "proctrack/cray_aries"):
        return ok("ended jobs", f"nothing of a job outlives it ({kind})")
    return warn(
        "ended jobs",
        f"processes can outlive their job ({kind or 'no ProctrackType'}), and one of an old attempt may still write",
        "ask your administrators for ProctrackType=proctrack/cgroup; health.end_stale = true ends what this suite left",
    )


def parse_config(text: str) -> dict[str, str]:
    """Lines `Key = value` of `scontrol show config`."""
    return dict(re.findall(r"^(\w+)\s*= ?(.*?)\s*$", text, re.MULTILINE))


def folder_lines(runs: Path, home: Path, umask: int, me: int) -> Iterator[Finding]:
    """Who may put something else in the place of what runs keep here, and read what is only yours."""
    yield _place(runs, me)
    if (mode := _mode(home)) and mode & OTHERS_WRITE and home.stat().st_uid == me:
        yield warn(
            "home folder",
            f"others may write to {home} ({stat.filemode(mode)}): what stands there runs in each of your shells",
            f"chmod go-w {home}",
        )
    if not umask & stat.S_IWOTH or (not umask & stat.S_IWGRP and not private_group(me)):
        yield warn(
            "umask",
            f"{umask:03o}: others may write to the files that you make",
            "`umask 027` in your shell's start-up file; jobs take it on",
        )
    keys = [path for name in KEYS_AT_HOME if (path := home / name).is_file()]
    keys += [path for pattern in KEYS_OF_RUNS for path in sorted(runs.glob(pattern)) if path.is_file()]
    yield from _keys(keys, me)


def _place(runs: Path, me: int) -> Finding:
    """The run folder and all above it: who may rename one of them may put another in its place."""
    try:
        path = runs.resolve()
        while not path.exists():
            path = path.parent
        for folder in (path, *path.parents):
            found = folder.stat()
            own = folder == runs.resolve()
            if found.st_uid not in (0, me):
                said = f"{folder} belongs to {name_of(found.st_uid)}, who can replace what is in it"
                return (fail if own else warn)(PLACE, said, "--run in a folder of your own, if you do not trust them")
            if found.st_mode & OTHERS_WRITE and (own or not found.st_mode & stat.S_ISVTX):
                everybody = found.st_mode & stat.S_IWOTH
                who = "everybody" if everybody else f"group {_group(found.st_gid)}"
                return (fail if everybody else warn)(
                    PLACE,
                    f"{who} may write to {folder} ({stat.filemode(found.st_mode)}), and so replace what is in it",
                    f"chmod go-w {folder}, or --run elsewhere",
                )
    except OSError as error:
        return warn(PLACE, f"{runs}: {error.strerror or error}", "name another with --run")
    return ok(PLACE, "nobody else can replace it")


def _keys(paths: Iterable[Path], me: int) -> Iterator[Finding]:
    paths = list(dict.fromkeys(paths))
    bad = [path for path in paths if (mode := _mode(path)) is not None and mode & 0o077]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        named = " ".join(str(path) for path in bad)
        yield warn("keys on disk", f"others can read {bad[0]}{more}", f"chmod 600 {named}")
    elif paths:
        yield ok("keys on disk", f"{len(paths)} files with keys, yours alone to read")


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def private_group(user: int) -> bool:
    """Whether the user's own group is theirs alone, as Debian and Red Hat make them: named as the user."""
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
    """What is wrong with a node's temporary folders for sockets and private files, worst first."""
    found = []
    for folder in dict.fromkeys(folders):
        try:
            status = folder.stat()
        except OSError as error:
            found.append(f"{folder}: {error.strerror or error}")
            continue
        if status.st_mode & OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            found.append(f"others can rename and remove your files in {folder}: no sticky bit")
        elif status.st_uid not in (0, os.geteuid()):
            found.append(f"{folder} belongs to {name_of(status.st_uid)}, who can replace your files in it")
        elif not os.access(folder, os.W_OK | os.X_OK):
            found.append(f"{folder} is not yours to write to")
        elif len(str(folder)) > LONGEST_TEMP:
            found.append(f"{folder} is longer than {LONGEST_TEMP} characters: sockets below it have no room")
    return found


def no_programs(folder: Path) -> bool:
    """Whether the file system is mounted noexec."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def temporary_folders() -> list[Path]:
    """Ray's sockets are in /tmp, what else a job needs for itself in TMPDIR."""
    return [Path("/tmp"), Path(tempfile.gettempdir())]  # noqa: S108 - they are looked at


def others_see_processes(mounts: str | None = None) -> bool | None:
    """Whether other users see this user's command lines: /proc without hidepid. None: it cannot be told."""
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
