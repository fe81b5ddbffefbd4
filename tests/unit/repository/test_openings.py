"""The watch of what a chain opens, on processes that take their titles late, never, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slurm.local.folder import conf_path
from support.openings import LOOPBACK, Opening, Row, Watch

LISTENS = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.set_inheritable(listening.fileno(), True)
print("listening", flush=True)
input()
os.execv(sys.executable, [sys.executable, sys.argv[1], str(listening.fileno())])
"""
GOES_ON = """
print("called something else", flush=True)
input()
"""
SPAWNS = """
import multiprocessing, socket, sys

def listen(titled, said, on):
    listening = socket.create_server(("127.0.0.1", 0))
    if titled:
        from setproctitle import setproctitle
        setproctitle("ray::Titled")
    said.put(None)
    on.get()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    said, on = context.Queue(), context.Queue()
    children = [context.Process(target=listen, args=(titled, said, on)) for titled in (True, False)]
    for child in children:
        child.start()
    for _ in children:
        said.get()
    print("listening", flush=True)
    input()
    for _ in children:
        on.put(None)
    for child in children:
        child.join()
"""


def started(folder: Path, text: str, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "first.py"
    script.write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(conf_path(folder))}
    process = subprocess.Popen([sys.executable, script, *arguments], stdin=-1, stdout=-1, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def loopback(watch: Watch) -> list[Opening]:
    return sorted(one for one in watch.found() if (one.kind, one.where) == ("TCP", LOOPBACK))


def row(*programs: str) -> Row:
    return Row("", programs, frozenset({("TCP", LOOPBACK)}), (), may_open=True, always_opens=True)


def test_what_a_process_opens_is_named_by_each_title_that_it_takes(tmp_path: Path) -> None:
    later = tmp_path / "later.py"
    later.write_text(GOES_ON)
    watch = Watch(tmp_path, {})
    with started(tmp_path, LISTENS, str(later)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        watch.look()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline()
        watch.look()
        process.communicate("\n")
    (one,) = loopback(watch)
    assert one.programs == ("first.py", "later.py")
    assert row("first.py").names(one)
    assert row("later.py").names(one)
    assert not row("ray::*").names(one)


def test_a_spawned_process_without_a_title_is_one_of_those_that_its_parent_starts(tmp_path: Path) -> None:
    watch = Watch(tmp_path, {})
    with started(tmp_path, SPAWNS) as process:
        watch.look()
        process.communicate("\n")
    watch.look()
    found = loopback(watch)
    assert found
    assert all("ray::Titled" in one.programs for one in found)


def test_another_cluster_s_processes_are_not_watched(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "another", {})
    with started(tmp_path, GOES_ON) as process:
        watch.look()
        process.communicate("\n")
    assert not watch.found()
