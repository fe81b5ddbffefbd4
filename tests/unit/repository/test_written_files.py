"""What the documented commands write into a checkout is not offered to git."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WRITES = re.compile(r"--(?:out|output|key-file) ([\w][\w./-]*)|^cp \S+ (\S+)|--run (runs/\S+)|RUN=(\S+)", re.MULTILINE)


def ignored(paths: list[str]) -> set[str]:
    """git is asked about this checkout's rules; a path need not be there."""
    command = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    told = subprocess.run(command, cwd=ROOT, input="\0".join(paths), capture_output=True, text=True, check=False)
    assert told.returncode in (0, 1), told.stderr
    return set(filter(None, told.stdout.split("\0")))


def test_what_the_documented_commands_write_is_ignored_by_git() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this checkout is not git's")
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [
        name for path in documents for match in WRITES.finditer(path.read_text()) for name in match.groups() if name
    ]
    written = sorted({name.rstrip(".") for name in found if "/" not in name[:1] and not name.isupper()})
    assert {"my-site.toml", "data/held_out", "runs/demo", "look.html"} <= set(written)
    inside = [f"{name}/x" if "." not in Path(name).name else name for name in written]
    assert set(inside) - ignored(inside) == set()


def test_what_set_up_tests_and_runs_write_is_ignored_and_what_is_ours_is_not() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this checkout is not git's")
    theirs = [
        ".venv/bin/python", ".venv.20260101-000000.1/bin/python", ".local/x", "runs/x/y", "swanlog/x", "build/x",
        "proxygrm_suite.egg-info/x", "front.key", "rows.parquet.report.json", "rows.parquet.dropped.jsonl",
    ]  # fmt: skip
    assert ignored(theirs) == set(theirs)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ignored(list(filter(None, listed.split("\0")))) == set()


def test_no_file_has_got_into_the_tree_by_a_slip() -> None:
    """A shell's redirection leaves an empty one, an editor's scratch or a note lies at the top."""
    if not (ROOT / ".git").exists():
        pytest.skip("this checkout is not git's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    there = [file for file in files if file.is_file()]
    assert [str(file) for file in there if not file.stat().st_size and file.name != "__init__.py"] == []
    top = {file.relative_to(ROOT).parts[0] for file in there}
    folders = {".ci", "benchmarks", "data_tools", "docs", "jobs", "proxygrm", "requirements", "slurm", "tests"}
    assert top == folders | {
        ".gitignore", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"
    }  # fmt: skip
