"""tests/conftest.py: whatever a run was started with, its tests and their processes see the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[3]
SEEN = """
import json, os, runpy, signal, subprocess, sys, time
runpy.run_path(sys.argv[1])
child = [sys.executable, "-c", "import json, os, signal; print(json.dumps([dict(os.environ), "
         "[int(signal.getsignal(n) == signal.SIG_IGN) for n in (1, 2, 3, 15)]]))"]
umask = os.umask(0)
shown = json.loads(subprocess.run(child, capture_output=True, check=True).stdout)
print(json.dumps([shown, umask, time.tzname, len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))]))
"""
KEPT = {"PATH": os.environ["PATH"], "USER": "somebody"}
HOSTILE = {
    "MAKEFLAGS": "w -- ARGS=-k\\ something RUN=runs/x", "MFLAGS": "-w", "MAKELEVEL": "1", "ARGS": "-k something",
    "RUN": "runs/x", "PROFILE": "mine.toml", "NODES": "9", "STAGE": "grm_rl", "SPEC": "none", "HOME": "/nonexistent",
    "SBATCH_TIMELIMIT": "1", "SLURM_JOB_ID": "5", "SLURM_CONF": "/nonexistent", "PROXYGRM_CLUSTER_DIR": "/nonexistent",
    "COLUMNS": "40", "TERM": "dumb", "FORCE_COLOR": "1", "NO_COLOR": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C",
    "SWANLAB_API_KEY": "x", "HF_HOME": "/nonexistent", "RAY_ADDRESS": "10.0.0.1:6379", "OMP_NUM_THREADS": "64",
    "CUDA_VISIBLE_DEVICES": "3", "PYTEST_ADDOPTS": "-x", "PYTHONWARNINGS": "error", "GIT_DIR": "/nonexistent",
    "XDG_CACHE_HOME": "/nonexistent", "BASH_ENV": "/nonexistent",
}  # fmt: skip


def seen(environment: dict[str, str], before: str = "") -> str:
    command = [
        "bash",
        "-c",
        f'{before} exec "$@"',
        "-",
        sys.executable,
        "-c",
        SEEN,
        str(ROOT / "tests" / "conftest.py"),
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("before", ["", "umask 077;", "trap '' HUP INT QUIT;"])
def test_variables_umask_and_ignored_signals_of_the_start_reach_no_test(before: str) -> None:
    assert seen(KEPT | HOSTILE, before) == seen(KEPT)


def test_the_way_to_the_network_is_kept_aside_for_what_is_installed() -> None:
    shown = seen(KEPT | {"http_proxy": "http://proxy:3128"})
    assert '"STARTED_WITH_http_proxy": "http://proxy:3128"' in shown
    assert '"http_proxy"' not in shown


def test_no_drawn_example_fails_for_the_time_that_it_takes() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


DRAWS = """
import hashlib, os, sys
if "LOADS" in os.environ["USER"]:
    sys.path.insert(0, "code")
    import values  # as a test before this one may have
from hypothesis import given, strategies as st
seen = []

@given(st.integers(), st.text())
def test_a(number, text):
    seen.append((number, text))

def test_b():
    print("DRAWN", len(seen), hashlib.sha256(repr(seen).encode()).hexdigest())
"""


def test_what_is_drawn_does_not_depend_on_the_code_that_a_process_has_loaded(tmp_path: Path) -> None:
    values = f"VALUES = {[*range(1000, 3000, 7), *(f'word {number}' for number in range(99))]}"
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    texts = {"tests/conftest.py": conftest, "tests/test_1.py": DRAWS, "code/values.py": values}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", "-qs", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    drawn = []
    for user in ("somebody", "who LOADS more"):
        ran = subprocess.run([*command, "--hypothesis-seed=0"], cwd=tmp_path, env=KEPT | {"USER": user},
                             capture_output=True, text=True)  # fmt: skip
        assert "2 passed" in ran.stdout, ran.stdout
        drawn.append([line for line in ran.stdout.splitlines() if "DRAWN" in line])
    assert len(drawn[0]) == 1
    assert drawn[0] == drawn[1]


FIRST = """
import logging, os, signal, pytest

@pytest.fixture(scope="module", autouse=True)
def engine():
    os.environ["OF_THE_MODULE"] = "1"

def test_a():
    os.environ["OF_A_TEST"] = os.environ["PATH"] = "1"
    del os.environ["USER"]
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.getLogger("jobs").addHandler(logging.StreamHandler())
    logging.getLogger("jobs").propagate = False

def test_b():
    assert os.environ["OF_THE_MODULE"] == "1"
    assert "OF_A_TEST" not in os.environ
    assert os.environ["USER"] == "somebody"
"""
SECOND = """
import logging, os, signal, subprocess, sys

def test_c():
    names = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert "OF_" not in names
    assert os.umask(0o022) == 0o022
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert (logging.getLogger("jobs").propagate, logging.getLogger("jobs").handlers) == (True, [])
"""


def test_what_a_test_or_a_module_s_engine_sets_reaches_no_test_after_it(tmp_path: Path) -> None:
    texts = {"conftest.py": (ROOT / "tests" / "conftest.py").read_text(), "test_1.py": FIRST, "test_2.py": SECOND}
    (tmp_path / "tests").mkdir()
    for name, text in texts.items():
        (tmp_path / "tests" / name).write_text(text)
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    ran = subprocess.run(command, cwd=tmp_path, env=KEPT, capture_output=True, text=True)
    assert "3 passed" in ran.stdout, ran.stdout
