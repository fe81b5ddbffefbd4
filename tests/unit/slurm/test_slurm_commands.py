"""SLURM's commands see an environment of our making: what the shell says to SLURM changes nothing."""

from __future__ import annotations

import ast
import os
import stat
import sys
from pathlib import Path

import click
import pytest

from jobs.cli.main import Commands
from slurm import commands
from slurm.health.doctor.run import shell
from support.refusals import refused

ROOT = Path(__file__).parents[3]
HOSTILE = {
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_PARTITION": "scavenge",
    "SBATCH_EXPORT": "NONE",
    "SLURM_EXPORT_ENV": "NONE",
    "SLURM_MEM_PER_CPU": "2000",
    "SLURM_CPU_BIND_TYPE": "mask_cpu:",
    "SLURM_ARRAY_JOB_ID": "99",
    "SLURM_CLUSTERS": "elsewhere",
    "SLURM_TIME_FORMAT": "relative",
    "SQUEUE_FORMAT": "%i",
    "SQUEUE_STATES": "PENDING",
    "SINFO_FORMAT": "%N",
    "SACCT_FORMAT": "JobID",
    "SCONTROL_ALL": "1",
    "SRUN_CPUS_PER_TASK": "3",
    "SUBMITIT_PREEMPT_SIGNAL": "USR1",
    "PMI_RANK": "3",
    "RANK": "3",
    "WORLD_SIZE": "8",
    "CUDA_VISIBLE_DEVICES": "5",
}
ORDINARY = {"PATH": "/bin", "HOME": "/home/x", "SLURM_CONF": "/etc/x.conf", "SWANLAB_API_KEY": "k", "PYTHONPATH": "/p"}


def test_what_speaks_to_slurm_or_comes_of_an_allocation_is_left_out_and_nothing_else() -> None:
    assert commands.clean({**HOSTILE, **ORDINARY}) == ORDINARY
    assert commands.ignored({**HOSTILE, **ORDINARY}) == sorted(HOSTILE)


def shows_its_environment(program: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    """A command first on PATH that prints its environment, and a shell with all variables that must not pass."""
    program.write_text(f"#!{sys.executable}\nimport os\nprint(sorted(os.environ.items()))\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for name, value in {**HOSTILE, "SLURM_CONF": "/etc/x.conf", **more}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


def test_a_command_gets_the_clean_environment_and_times_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_its_environment(tmp_path / "squeue", monkeypatch)
    environment = dict(ast.literal_eval(commands.ask("squeue", "-h")))
    assert environment["SLURM_CONF"] == "/etc/x.conf"
    assert environment["SLURM_TIME_FORMAT"] == "%s"
    assert not set(HOSTILE) - {"SLURM_TIME_FORMAT"} & set(environment)


def test_what_a_job_inherits_from_sbatch_is_the_shell_s_own_environment_without_what_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_its_environment(tmp_path / "sbatch", monkeypatch, LC_ALL="de_DE.UTF-8")
    environment = dict(ast.literal_eval(commands.sbatch(tmp_path / "x.sh").stdout))
    assert (environment["SLURM_CONF"], environment["LC_ALL"]) == ("/etc/x.conf", "de_DE.UTF-8")
    assert not set(HOSTILE) & set(environment)


def test_a_job_does_not_inherit_what_libraries_set_in_the_command_that_sends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_its_environment(tmp_path / "sbatch", monkeypatch, CHANGED="by nobody", REMOVED="by nobody")
    sent: dict[str, str] = {}

    @click.command
    def sends() -> None:
        for name, value in {"SET": "by a library", "CHANGED": "by a library"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("REMOVED")
        commands.set_environment({"SLURM_CONF": "/private/slurm.conf"})
        sent.update(ast.literal_eval(commands.sbatch(tmp_path / "x.sh").stdout))

    Commands(commands={"sends": sends})(["sends"], standalone_mode=False)
    assert "SET" not in sent
    assert (sent["CHANGED"], sent["REMOVED"]) == ("by nobody", "by nobody")
    assert sent["SLURM_CONF"] == os.environ["SLURM_CONF"] == "/private/slurm.conf"
    after = dict(ast.literal_eval(commands.sbatch(tmp_path / "x.sh").stdout))
    assert (after["SET"], after["CHANGED"]) == ("by a library", "by a library"), "outside of a command: as it is"


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (
            "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
            "slurm.command-failed",
            "slurm_load_jobs error: Unable to contact slurm controller",
        ),
        ("exit 3", "slurm.command-failed", "exit code 3"),
        ("printf 'squeue: error: bad \\377 byte\\n' >&2; exit 1", "slurm.command-failed", "bad \ufffd byte"),
        ("exec sleep 100", "slurm.timeout", None),
    ],
)
def test_a_command_that_does_not_answer_is_one_line(
    body: str, code: str, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with refused(code, command="squeue", reason=reason) as caught:
        commands.ask("squeue", timeout_s=1.0 if code == "slurm.timeout" else 60.0)
    assert "\n" not in str(caught.value)


def test_a_command_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused("slurm.not-installed", command="squeue") as caught:
        commands.ask("squeue")
    assert isinstance(caught.value, commands.NoAnswer)


def test_doctor_names_what_it_ignores_and_no_value() -> None:
    (finding,) = shell({"SBATCH_ACCOUNT": "secret-lab", "HOME": "/home/x"})
    assert "SBATCH_ACCOUNT" in finding.detail
    assert "secret-lab" not in finding.detail
    assert list(shell(ORDINARY)) == []


def test_slurm_s_commands_are_run_in_one_place() -> None:
    """`slurm/local` runs those of its own cluster against its own configuration; submitit runs sbatch."""
    programs = {"squeue", "sacct", "scontrol", "sinfo", "scancel", "sacctmgr", "sbatch", "srun"}
    guilty = []
    for package in ("jobs", "slurm", "proxygrm", "data_tools"):
        for path in (ROOT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and ast.unparse(call.func).startswith(("subprocess.", "os.")):
                    words = {node.value for node in ast.walk(call) if isinstance(node, ast.Constant)}
                    guilty += [f"{path}:{call.lineno}"] if words & programs else []
    assert guilty == []
