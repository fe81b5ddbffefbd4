"""`proxygrm doctor` against the real local scheduler, its probe job included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

SITE = """
[scheduler]
partition = "{partition}"
max_nodes = 4
[node]
device = "cpu"
gpus = 8
gpu_type = "{gpu_type}"
cpus = 64
memory_gb = 400
interface = "{interface}"
[environment]
setup = ["echo 'Loading a module'", "{setup}"]
[environment.variables]
HF_HUB_OFFLINE = "1"
[health]
min_shm_gb = 0.01
"""


@pytest.fixture
def doctor(local_cluster, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Asks about a site; gives the exit code and the lines by check."""

    def ask(partition: str = "h100", gpu_type: str = "h100", interface: str = "", setup: str = "true", *more: str):  # type: ignore[no-untyped-def]
        site = tmp_path / "my site.toml"
        site.write_text(SITE.format(partition=partition, gpu_type=gpu_type, interface=interface, setup=setup))
        command = [sys.executable, "-m", "jobs", "doctor", "--profile", str(site), "--json"]
        done = subprocess.run(
            [*command, "--run", str(tmp_path / "it's runs"), "--wait", "300", *more],
            env={**os.environ, **local_cluster.env},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.stdout, done.stderr
        return done.returncode, {line["check"]: line for line in json.loads(done.stdout)}

    return ask


def test_a_profile_that_fits_passes_with_a_real_job_on_a_node(doctor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, lines = doctor()
    assert code == 0, lines
    assert {line["level"] for line in lines.values()} <= {"ok", "warn"}, lines  # warn: what space this machine has
    assert lines["nodes"]["detail"].startswith("2 of 2 in h100 have h100:8")
    assert lines["probe job"]["detail"].startswith("ran on h100-")
    assert lines["shared folder"]["level"] == "ok"
    assert lines["shared nodes"]["level"] == "warn", "its partitions share nodes"
    assert 'scheduler.exclusive = "user"' in lines["shared nodes"]["remedy"]
    assert (lines["ended jobs"]["level"], "linuxproc" in lines["ended jobs"]["detail"]) == ("warn", True)
    assert lines["run folder's location"]["level"] == "ok"
    assert lines["other users"]["detail"].startswith("on h100-")
    assert list((tmp_path / "it's runs").iterdir()) == [], "the probe leaves nothing behind"


@pytest.mark.parametrize(
    ("asked", "check", "words"),
    [
        ({"partition": "h10"}, "partition", "did you mean h100?"),
        ({"gpu_type": "h200"}, "nodes", "no node in h100 has h200:8"),
        ({"interface": "ib7"}, "interface", "no network interface 'ib7'"),
        ({"setup": "echo no such module >&2; exit 1"}, "probe job", "no such module"),
    ],
)
def test_what_does_not_fit_is_named_and_ends_with_1(doctor, asked: dict[str, str], check: str, words: str) -> None:  # type: ignore[no-untyped-def]
    code, lines = doctor(**asked)
    assert code == 1
    assert lines[check]["level"] == "fail", lines
    assert words in lines[check]["detail"] + lines[check]["remedy"]


def test_a_queue_without_a_free_place_is_no_fault(doctor, local_cluster) -> None:  # type: ignore[no-untyped-def]
    job = local_cluster.submit("sleep 600", "--partition=h100", "--nodes=2", "--exclusive")
    try:
        local_cluster.wait(job, "RUNNING")
        code, lines = doctor("h100", "h100", "", "true", "--wait", "1")
        assert (code, lines["probe job"]["level"]) == (0, "warn"), lines
        code, lines = doctor("h100", "h100", "", "true", "--no-job")
        assert (code, "probe job" in lines) == (0, False)
    finally:
        local_cluster.run("scancel", str(job))


STAND_IN = """#!/bin/bash
# Reads its words as apptainer does; the image is this machine.
printf '%s\\n' "$@" > "{log}"
[ "$1" = exec ] && shift
while [[ "$1" == --* ]]; do
    case "$1" in
        --bind) shift 2 ;;
        --pwd) cd "$2" || exit 1; shift 2 ;;
        *) shift ;;
    esac
done
[ -f "$1" ] || {{ echo "FATAL: could not open image $1" >&2; exit 255; }}
shift
exec "$@"
"""


@pytest.mark.parametrize("there", [True, False], ids=["an image", "no image"])
def test_the_probe_goes_through_the_container_that_jobs_would_use(  # type: ignore[no-untyped-def]
    local_cluster, tmp_path: Path, there: bool
) -> None:
    log, image = tmp_path / "words", tmp_path / "it's an image.sif"
    (tmp_path / "apptainer").write_text(STAND_IN.format(log=log))
    (tmp_path / "apptainer").chmod(0o755)
    if there:
        image.touch()
    site = tmp_path / "site.toml"
    text = SITE.format(partition="h100", gpu_type="h100", interface="", setup=f"export PATH='{tmp_path}':$PATH")
    text = text.replace("[environment]", f'[environment]\npython = "{sys.executable}"')
    site.write_text(f'{text}[container]\nruntime = "apptainer"\nimage = "{image}"\nmounts = ["/shared/da ta"]\n')
    command = [sys.executable, "-m", "jobs", "doctor", "--profile", str(site), "--json"]
    done = subprocess.run(
        [*command, "--run", str(tmp_path / "a run"), "--wait", "300"],
        env={**os.environ, **local_cluster.env},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = {line["check"]: line for line in json.loads(done.stdout)}
    words = log.read_text().splitlines()
    assert words[0] == "exec"
    assert "/shared/da ta:/shared/da ta" in words
    assert words[words.index("--pwd") + 2 : words.index("-m")] == [str(image), sys.executable]
    if there:
        assert done.returncode == 0, lines
        assert lines["shared folder"]["level"] == "ok"
    else:
        assert done.returncode == 1
        assert lines["probe job"]["detail"] == f"FATAL: could not open image {image}"
