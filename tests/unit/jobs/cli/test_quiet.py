"""What libraries print goes to a named log; what a command prints goes to its caller. In real processes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
NOISE = """
import atexit, ctypes, logging, multiprocessing, os, subprocess, sys, warnings
import click
from jobs.cli.common.console import out
from jobs.cli.common.quiet import progress_bar, quiet, say
from proxygrm.core.errors import UserError

early = logging.StreamHandler()  # holds the stream of before
logging.getLogger("early").addHandler(early)

def child():
    os.write(2, b"noise of a child\\n")

def noise():
    print("noise of print")
    print("noise on stderr", file=sys.stderr)
    warnings.warn("noise of a warning")
    logging.getLogger("library").warning("noise of logging")
    logging.getLogger("early").warning("noise of early logging")
    os.write(1, b"noise into descriptor 1\\n")
    os.write(2, b"noise into descriptor 2\\n")
    subprocess.run(["sh", "-c", "echo noise of a program; echo noise of its errors >&2"])
    started = multiprocessing.get_context("spawn").Process(target=child)
    started.start()
    started.join()
    ctypes.CDLL(None).printf(b"noise in the buffer of C\\n")
    late = logging.StreamHandler()
    logging.getLogger("late").addHandler(late)
    atexit.register(print, "noise at exit")
    atexit.register(os.write, 2, b"noise at exit of C\\n")
    atexit.register(logging.getLogger("late").warning, "noise of late logging")


"""
COMMANDS = (
    NOISE
    + """
from jobs.cli.main import Commands

@click.group(cls=Commands)
@click.option("--debug", is_flag=True)
def main(debug): pass

@main.command()
def fine():
    with quiet("fine"), progress_bar() as bar:
        task = bar.add_task("judging", total=2)
        noise()
        say("said meanwhile")
        say("said on the side", err=True)
        out.print("printed meanwhile")
        bar.update(task, completed=2)
        with quiet("inner"):
            print("noise of an inner block")
    out.print("the result")
    click.echo('{"figures": 1}')

@main.command()
@click.argument("how")
def fails(how):
    with quiet("fails"):
        noise()
        os.write(2, b"RuntimeError: CUDA out of memory. Tried to allocate 2 GiB\\n")
        for n in range(30): print("chatter", n)
        if how == "user": raise UserError("the model does not fit")
        if how == "bug": raise ValueError("a bug of ours")
        if how == "exit": sys.exit(7)
        if how == "crash": os.abort()
        raise KeyboardInterrupt

@main.command()
def silent():
    with quiet("silent"):
        say("only ours")

@main.command()
def full():
    with quiet("full"):
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 1), os.dup2(full, 2)
        print("lost" * 9000)
        sys.stderr.write("lost")
        say("still here")

if __name__ == "__main__":
    main()
"""
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.py"
    path.write_text(COMMANDS)
    return path


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    logs = tmp_path / "logs"
    logs.mkdir(exist_ok=True)
    return kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(logs), "COLUMNS": "200"} | more


def ran(script: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *words], env=environment(script.parent, **more), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def log_of(script: Path) -> Path:
    (log,) = (script.parent / "logs").glob("proxygrm-*.log")
    return log


def test_a_loud_command_prints_its_own_lines_alone_and_names_the_log(script):
    done = ran(script, "fine")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["said meanwhile", "printed meanwhile", "the result", '{"figures": 1}']
    log = log_of(script)
    assert done.stderr.splitlines() == ["said on the side", f"what libraries printed: {log}"]
    text = log.read_text()
    for kind in (
        "of print", "on stderr", "of a warning", "of logging", "of early logging", "into descriptor 1",
        "into descriptor 2", "of a program", "of its errors", "of a child", "in the buffer of C", "of an inner block",
        "at exit", "at exit of C", "of late logging",
    ):  # fmt: skip
        assert re.search(rf"noise {kind}$", text, re.MULTILINE), (kind, text)
    assert "meanwhile" not in text


def test_on_a_terminal_the_bar_is_shown_and_the_noise_is_not(script):
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, str(script), "fine"], env=environment(script.parent, TERM="xterm"), stdin=follower,
        stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(leader)
    assert done.wait() == 0
    assert b"judging" in seen
    assert b"100%" in seen
    assert b"the result" in seen
    assert b"noise" not in seen


@pytest.mark.parametrize(("how", "code", "told"), [("user", 2, "proxygrm: the model does not fit"), ("exit", 7, None)])
def test_exit_codes_and_error_lines_stay(script, how, code, told):
    done = ran(script, "fails", how)
    assert done.returncode == code
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert f"what libraries printed: {log_of(script)}" in lines
    if told:
        assert lines[-1] == told
        assert lines[0].strip() == "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
        assert len(lines) == 3


def test_a_bug_keeps_its_traceback(script):
    done = ran(script, "fails", "bug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: a bug of ours"
    assert "noise" not in done.stderr


def test_ctrl_c_names_the_log_and_shows_no_cause(script):
    done = ran(script, "fails", "interrupt")
    assert done.returncode == 130
    assert done.stderr.splitlines()[0] == f"what libraries printed: {log_of(script)}"
    assert "CUDA" not in done.stderr


def test_a_crash_in_c_is_told_to_the_caller_and_the_log_is_kept(script):
    done = ran(script, "fails", "crash")
    assert done.returncode < 0
    assert "Fatal Python error: Aborted" in done.stderr
    assert "noise" not in done.stderr
    assert "CUDA out of memory" in log_of(script).read_text()


def test_a_quiet_command_leaves_no_log_and_names_none(script):
    done = ran(script, "silent")
    assert (done.stdout, done.stderr, done.returncode) == ("only ours\n", "", 0)
    assert list((script.parent / "logs").iterdir()) == []


def test_a_log_that_cannot_be_written_ends_nothing(script):
    done = ran(script, "full")
    assert (done.stdout, done.returncode) == ("still here\n", 0)


def test_inside_a_job_all_goes_to_the_jobs_own_log(script):
    done = ran(script, "fine", SLURM_JOB_ID="7")
    assert done.returncode == 0
    assert "noise into descriptor 1" in done.stdout
    assert list((script.parent / "logs").iterdir()) == []


def test_json_on_standard_output_is_json_alone_though_a_library_warns(tmp_path):
    """An image of 90 megapixels makes Pillow warn of a bomb."""
    from PIL import Image

    Image.new("1", (9500, 9500)).save(tmp_path / "a.png")
    row = {"id": "1", "question": "q", "chosen": "a", "rejected": "b", "images": ["a.png"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "data", "check", str(tmp_path / "rows.jsonl"), "--json", "--decode"],
        env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)["rows"] == 1
    assert "DecompressionBombWarning" not in done.stderr
