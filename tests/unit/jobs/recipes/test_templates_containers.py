"""Modules, virtual environments and containers as shell words, without a cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.engine.plan import Planned
from jobs.engine.stage import Stage, StageRun
from jobs.engine.submit import rendered
from proxygrm.core.errors import UserError
from slurm import profile as profiles
from slurm.environment import REPOSITORY, python_command, setup_lines
from slurm.profile import Container, Environment, Node, Profile
from slurm.sbatch import Resources

GOLDEN = Path(__file__).parents[3] / "golden"
RUN = Path("/shared/runs/first run")
NASTY = 'it\'s $HOME `id` "x" ü'


def in_bash(lines: list[str], then: str, **variables: str) -> str:
    """What a batch shell prints that runs the lines first."""
    script = "\n".join([*lines, then])
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=False)
    return f"{done.stdout}{done.stderr}".strip()


def test_a_value_with_quotes_and_dollars_arrives_as_it_was_written() -> None:
    profile = Profile("site", environment=Environment(variables={"WORDS": NASTY}))
    assert in_bash(setup_lines(profile), 'printf %s "$WORDS"') == NASTY


def test_modules_are_loaded_in_order_and_a_missing_one_ends_the_job() -> None:
    profile = Profile("site", environment=Environment(modules=["gcc/13", "cuda/13.0"], setup=["echo after"]))
    works = 'module() { echo "module $*"; }'
    assert in_bash([works, *setup_lines(profile)], "echo work") == (
        "module load gcc/13\nmodule load cuda/13.0\nafter\nwork"
    )
    fails = 'module() { echo "no $2"; false; }'
    assert in_bash([fails, *setup_lines(profile)], "echo work") == "no gcc/13"


def test_a_venv_in_a_folder_with_spaces_is_activated_and_its_python_runs(tmp_path: Path) -> None:
    venv = tmp_path / "my venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").write_text("echo activated\n")
    (venv / "bin" / "python").symlink_to(sys.executable)
    profile = Profile("site", environment=Environment(venv=str(venv)))
    said = in_bash(setup_lines(profile), f"{python_command(profile, RUN)} -c 'print(6 * 7)'")
    assert said == "activated\n42"


def test_a_venv_that_is_gone_ends_the_job_before_any_work() -> None:
    profile = Profile("site", environment=Environment(venv="/nowhere/venv"))
    assert "work" not in in_bash(setup_lines(profile), "echo work").splitlines()


def test_without_container_nothing_is_added_to_srun() -> None:
    assert python_command(Profile("site", environment=Environment(python="python3.11")), RUN) == "python3.11"


def test_apptainer_gets_the_gpus_only_where_there_are_any(tmp_path: Path) -> None:
    container = Container("apptainer", f"/images/{NASTY}.sif", options=["--cleanenv"])
    profile = Profile("site", container=container)
    words = subprocess.run(
        ["bash", "-c", f'apptainer() {{ printf "%s\\n" "$@"; }}; {python_command(profile, RUN)} -u'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert words == [
        *("exec", "--nv", "--bind", f"{REPOSITORY}:{REPOSITORY}", "--bind", f"{RUN}:{RUN}", "--pwd", str(REPOSITORY)),
        *("--cleanenv", f"/images/{NASTY}.sif", "python3", "-u"),
    ]
    assert "--nv" not in python_command(replace(profile, node=Node(device="cpu")), RUN)


def test_a_mount_without_an_inner_path_keeps_its_own() -> None:
    container = Container("pyxis", "/i.sqsh", mounts=["/data", "/home/me:ro", "/a:/b:ro"])
    words = python_command(Profile("s", container=container), RUN)
    assert ",/data:/data,/home/me:/home/me:ro,/a:/b:ro' --container-workdir=" in words


def test_a_run_folder_that_no_container_can_mount_is_refused() -> None:
    profile = Profile("site", container=Container("pyxis", "/i.sqsh"))
    with pytest.raises(UserError, match="colon or a comma"):
        python_command(profile, Path("/runs/a:b"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[container]\nruntime = "docker"\nimage = "x"\n', "there are pyxis and apptainer"),
        ('[container]\nimage = "x"\n', "belong together"),
        ('[container]\nruntime = "pyxis"\n', "belong together"),
        ('[container]\nruntime = "pyxis"\nimage = "x"\nmounts = ["data"]\n', "is not /HOST"),
        ('[container]\nruntime = "pyxis"\nimage = "x"\nmounts = ["/a,/b"]\n', "is not /HOST"),
        ('[container]\nimgae = "x"\n', "did you mean 'image'"),
        ('[environment]\nmodules = ["cuda; rm -rf /"]\n', "is not a module"),
        ("[health]\nslow_factor = 0.5\n", "slow_factor is at least 1"),
        ("[health]\nmin_shm = 2\n", "did you mean 'min_shm_gb'"),
    ],
)
def test_a_profile_that_would_fail_only_in_the_job_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=expected):
        profiles.load(str(file))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (
            "pyxis",
            '[container]\nruntime = "pyxis"\nimage = "/shared/images/proxygrm 1.sqsh"\n'
            'mounts = ["/shared/data:/data:ro", "/run/munge"]\noptions = ["--no-container-mount-home"]\n',
        ),
        (
            "apptainer",
            '[environment]\nmodules = ["apptainer/1.3"]\n[environment.variables]\nHF_HUB_OFFLINE = "1"\n'
            '[container]\nruntime = "apptainer"\nimage = "/shared/images/proxygrm.sif"\nmounts = ["/shared/data"]\n',
        ),
        (
            "modules",
            '[environment]\nmodules = ["gcc/13.2", "cuda/13.0"]\nvenv = "/shared/my envs/rl"\n'
            'setup = ["ulimit -n 65536"]\n',
        ),
    ],
)
def test_a_job_in_a_container_or_with_modules_is_the_golden_one(tmp_path: Path, name: str, table: str) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'[scheduler]\npartition = "h100"\n[node]\ngpu_type = "h100"\ncpus = 96\nmemory_gb = 1900\n{table}')
    profile = profiles.load(str(site))
    on = Resources(nodes=2, gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=60)
    stage = Stage("grm_rl", _no_work, (), on)
    script = rendered([Planned(stage, "run", "not done yet", "f")], profile, RUN, {})
    golden = GOLDEN / f"site_{name}.sbatch"
    steady = re.sub(r"/code/[0-9a-f]{12}", "/code/ID", script.replace(str(REPOSITORY), "/REPOSITORY"))
    assert steady == golden.read_text()
    assert shellcheck(script) == ""


def shellcheck(script: str) -> str:
    """What shellcheck says of a script; nothing where it is not installed (`make lint` insists on it)."""
    if shutil.which("shellcheck") is None:
        return ""
    # SC1091: files that are sourced stand on the site.
    words = ["shellcheck", "--exclude=SC1091", "-"]
    return subprocess.run(words, input=script, capture_output=True, text=True, check=False).stdout


def _no_work(run: StageRun) -> None:
    """Only rendered, never run."""
