"""Untrusted text (logs, error bodies, names) cannot control the terminal that shows it."""

from __future__ import annotations

import ast
import fcntl
import io
import json
import logging
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import recipes
from jobs.cli.common import console
from jobs.cli.common import say as saying
from jobs.cli.run import follow
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import write_json
from proxygrm.core.errors import UserError
from proxygrm.core.visible import uncoloured, visible
from support.run_folders.run_commands import here, say, sent

ROOT = Path(__file__).parents[4]
__all__ = ["here"]
HOSTILE = {
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "title": "\x1b]0;title\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "answer back": "\x1b[6n\x1b[c",
    "device string": "\x1bP1$r\x1b\\",
    "hidden": "\x1b[8mhidden\x1b[0m",
    "link": "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\",
    "one-byte introducer": "\x9b2J\x9d52;c;eA==\x9c",
    "bell and overstrike": "\x07a\x08b\x7f",
    "over the line": "bad\rgood",
    "form feed": "a\x0b\x0cb",
    "shift out": "\x0e\x0f\x00",
    "right to left": "a\u202eb\u2066c\u200f\u061c",
    "line separator": "a\u2028b\u2029c\u0085d",
}
OBEYED = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"} | set(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_control_characters_are_shown_in_letters(text: str) -> None:
    shown = visible(f"before {text} after")
    assert not OBEYED & set(shown)
    assert shown.encode("ascii").decode("unicode_escape") == f"before {text} after" or "\\" in text
    assert visible(shown) == shown


def test_ordinary_text_of_any_script_stays_as_it_is() -> None:
    for text in ("plain\n\ttext", "ünï 語 עברית العربية", "👩‍👩‍👧 é", "C:\\x1b", ""):
        assert visible(text) == text
    assert uncoloured("\x1b[1;36m(pid=7)\x1b[0m ok \x1b[2J") == "(pid=7) ok \x1b[2J"


def test_json_keeps_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    value = dict(HOSTILE.items())
    saying.echo(json.dumps(value, ensure_ascii=False))
    out = capsys.readouterr().out
    assert not OBEYED & set(out)
    assert json.loads(out) == value


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_tables_and_rich_text_show_it_and_keep_their_own_colours(text: str) -> None:
    file = io.StringIO()
    out = console._Console(file=file, force_terminal=True, width=200, highlight=False)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    table.add_row(Text(text))
    for thing in (table, Text(text), f"[red]{console.escape(text)}[/]"):
        out.print(thing)
    out.print(text, markup=False)
    plain = uncoloured(file.getvalue())
    assert "\x1b[31m" in file.getvalue()
    assert not OBEYED & set(plain)
    assert plain.count(visible(text).splitlines()[0].strip()) >= 4
    widths = {len(line) for line in plain.splitlines() if line.startswith(("┃", "│"))}
    assert len(widths) == 1


def run_with_hostile_logs(text: str) -> Ledger:
    """A run whose distill failed with such words, and with such lines in its log."""
    Path("site.toml").write_text("preset = 'quick'\nprivate_cluster = true\n")
    sent("site.toml")
    ledger, stages = Ledger(Path("runs/site")), recipes.of_run(Path("runs/site")).stages
    distill = next(stage for stage in stages if stage.name == "distill")
    ledger.prepare(distill, distill.fingerprint())
    ledger.record_submissions({"distill": ("7", distill.fingerprint())})
    write_json(
        ledger.folder / "distill" / "FAILED.0.json",
        {"reason": f"the teacher says {text}", "node": text, "rank": 0, "time": 1.0, "attempt": ["7", 1]},
    )
    log = ledger.folder / "distill" / "jobs" / "7_0_0_log.out"
    log.parent.mkdir(parents=True)
    log.write_bytes(f"first {text}\nValueError: {text}\n".encode() + b"no UTF-8: \x9b2J \xff\n")
    return ledger


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_status_why_and_logs_show_it_and_raw_gives_the_bytes(text: str) -> None:
    ledger = run_with_hostile_logs(text)
    for words in (
        ["status"],
        ["status", "--json"],
        ["why", "distill"],
        ["why", "distill", "--json"],
        ["logs", "distill"],
    ):
        output = say(*words)
        assert not OBEYED & set(output.output), words
        assert output.exit_code == 0, (words, output.output)
    log = ledger.folder / "distill" / "jobs" / "7_0_0_log.out"
    raw = say("logs", "distill", "--raw").stdout_bytes
    assert raw.endswith(log.read_bytes())
    assert say("logs", "distill", "--raw", "-n", "1").stdout_bytes.endswith(b"\nno UTF-8: \x9b2J \xff\n")


def test_colours_of_a_log_are_left_out_and_nothing_else() -> None:
    run_with_hostile_logs("\x1b[36m(pid=7)\x1b[0m \x1b[2J")
    assert "ValueError: (pid=7) \\x1b[2J\n" in say("logs", "distill").stdout


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_error_line_shows_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: object) -> None:
        raise UserError(f"HTTP 500: {text}")

    monkeypatch.setattr(console, "of_run", fails)
    for words in (["status"], ["--debug", "status"]):
        output = say(*words)
        assert output.exit_code == 2
        assert not OBEYED & set(output.output)
        assert visible(text) in output.stderr


def test_what_python_prints_of_an_unexpected_error_and_of_a_logged_warning_shows_it() -> None:
    code = f"""
import logging
from jobs.cli.common.say import guard_the_rest
guard_the_rest()
logging.getLogger("x").warning("body: %s", {HOSTILE["clipboard"]!r})
raise RuntimeError({HOSTILE["clear"]!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert not OBEYED & set(done.stderr)
    for name in ("clipboard", "clear"):
        assert visible(HOSTILE[name]) in done.stderr
    assert logging.lastResort is not None


def test_a_followed_log_shows_it_wherever_the_blocks_are_split(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[36m(pid=7)\x1b[0m ü \x1b]52;c;eA==\x07 10%\r 20%\r\nend \x9b2J \x1b"
    data = text.encode() + b"\xff"
    blocks_of = [[data[:cut], data[cut:]] for cut in range(1, len(data))]
    blocks_of += [[data[start : start + size] for start in range(0, len(data), size)] for size in (1, 2, 3, 7)]
    for blocks in blocks_of:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as log:
            shown = threading.Thread(target=follow._show, args=(log,))
            shown.start()
            for block in blocks:
                os.write(writing, block)
                while struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4))[0]:
                    time.sleep(0.001)  # until it has been read, as a block of its own
            os.close(writing)
            shown.join()
        out = capsys.readouterr().out
        assert not OBEYED & set(out)
        assert out == "(pid=7) ü \\x1b]52;c;eA==\\x07 10%\n 20%\nend \\u009b2J \\x1b�"


def test_commands_print_by_the_two_guarded_ways_alone() -> None:
    unsafe = []
    for path in sorted((ROOT / "jobs").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho" | "style" | "echo_via_pager"):
                    unsafe.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {place.split(":")[0] for place in unsafe} == {"jobs/cli/common/say.py"}, unsafe


def test_the_console_of_all_commands_is_the_guarded_one() -> None:
    code = (
        "from jobs.cli.common import console; "
        "print(type(console.out).__name__, isinstance(console.out, console.Console))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "_Console True\n"
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("jobs", "proxygrm", "slurm", "data_tools")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == Console.__name__
    ]
    assert calls == []
