"""All checks of `proxygrm doctor`, in the order in which things are needed. No secrets are read."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from slurm.commands import NoAnswer, ask, ignored
from slurm.environment import path_problem
from slurm.health.doctor import folder, machine, probe, safety, site
from slurm.health.doctor.finding import Finding, fail, ok, warn
from slurm.profile import Profile

NAMES_SHOWN = 8
KEY_FILES = ("SWANLAB_API_KEY_FILE", "HF_TOKEN_PATH")


def examine(profile: Profile, runs: Path, *, job: bool, wait_s: int) -> Iterator[Finding]:
    """Findings as soon as they are known. job False: nothing is submitted. wait_s: for the probe job to start."""
    try:
        version = ask("sinfo", "--version").strip()
        ask("scontrol", "ping")
        facts = site.query(pwd.getpwuid(os.getuid()).pw_name)
    except NoAnswer as error:
        remedy = "`make cluster-up`" if profile.private_cluster else "run this on the cluster's login node"
        yield fail("SLURM", str(error), remedy)
        yield from here(runs, profile)
        return
    yield ok("SLURM", version)
    yield accounting()
    yield from shell(os.environ)
    yield from site.compare(facts, profile)
    yield from shared_site(profile)
    yield from here(runs, profile)
    login = machine.measure("cpu", "")
    if job:
        yield from probe.judge(probe.run(profile, runs, wait_s), login, profile, runs)
    elif folder.file_system(runs) in folder.LOCAL_KINDS and not profile.private_cluster:
        kind = folder.file_system(runs)
        yield warn(
            "shared folder",
            f"{runs} looks like a local disk ({kind})",
            "--run must be on a file system that all nodes share",
        )


def accounting() -> Finding:
    try:
        ask("sacct", "-n", "-X", "-o", "JobID", "-S", "now-1minute")
    except NoAnswer as error:
        return warn("accounting", str(error), "jobs run; `status` knows ended jobs only by their own records")
    return ok("accounting", "sacct answers")


def shared_site(profile: Profile) -> Iterator[Finding]:
    """Whether other users' jobs may share this user's nodes."""
    try:
        config = safety.parse_config(ask("scontrol", "show", "config"))
        partitions = ask("scontrol", "show", "partition", "-a", "-o")
    except NoAnswer as error:
        yield warn("shared nodes", str(error), "ask your administrators whether other users' jobs share your nodes")
        return
    yield from safety.site_lines(config, partitions, profile)


def shell(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Variables of the shell that SLURM's commands would read, and that are not passed on."""
    if names := ignored(environment):
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        listed = ", ".join(names[:NAMES_SHOWN])
        yield ok("your shell", f"ignored: {listed}{more}; only the profile and the options decide what jobs request")


def here(runs: Path, profile: Profile) -> Iterator[Finding]:
    """The run folder's file system and the user's own key files."""
    if problem := path_problem(runs.absolute()):
        yield fail("run folder", problem, "--run NAME")
    try:
        yield from folder.judge(folder.measure(runs), runs, profile.node.device)
    except OSError as error:
        yield fail("run folder", f"{runs}: {error.strerror or error}", "choose another with --run")
    yield from safety.folder_lines(runs, Path.home(), safety.umask_now(), os.geteuid())
    for name in KEY_FILES:
        if path := os.environ.get(name):
            yield key_file(name, Path(path).expanduser())


def key_file(name: str, path: Path) -> Finding:
    """Only its mode is checked; it is not read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return fail("key file", f"{name}: {path}: {error.strerror}", "correct the variable or unset it")
    if stat.S_IMODE(mode) & 0o077:
        return warn("key file", f"{name}: other users can read {path}", f"chmod 600 {path}")
    return ok("key file", f"{name}: only you can read it")
