"""The table of the released code's faults: all of them, each with tests that exist, or the reason why it has none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE = (ROOT / "docs" / "process.md").read_text(encoding="utf-8").partition("## Faults of the released code")[2]
ROWS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.*) \|$", TABLE, re.MULTILINE)


def test_every_fault_has_its_row() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 32))


def test_every_row_names_tests_that_exist_or_says_why_it_has_none() -> None:
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for text in files for name in re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE)}
    named = {number: re.findall(r"`(test_\w+)`", tests) for number, _, _, tests in ROWS}
    assert {number: set(tests) - there for number, tests in named.items() if set(tests) - there} == {}
    assert [
        number for number, _, here, _ in ROWS if not named[number] and not here.startswith("does not apply: ")
    ] == []


@pytest.mark.slow
def test_importing_everything_writes_nothing(tmp_path: Path) -> None:
    packages = ("jobs.cli", "jobs.recipes", "jobs.stages", "data_tools", "proxygrm.process", "proxygrm.evaluate")
    walk = (
        "import importlib, pkgutil, sys\n"
        "for name in sys.argv[1:]:\n"
        "    package = importlib.import_module(name)\n"
        "    for each in pkgutil.walk_packages(package.__path__, f'{name}.'):\n"
        "        importlib.import_module(each.name)\n"
    )
    subprocess.run(
        [sys.executable, "-B", "-c", walk, *packages], cwd=tmp_path, check=True, timeout=900,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
