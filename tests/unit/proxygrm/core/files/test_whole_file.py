"""Atomic files."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxygrm.core.files.whole_file import WholeFileWriter, beside, whole_file, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_there_at_a_clean_end_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "made" / "too" / "rows 'ä'.jsonl"
    with whole_file(target) as scratch:
        scratch.write_text("half")
        assert not target.exists()
        scratch.write_text("whole")
    assert (names(target.parent), target.read_text()) == ([target.name], "whole")


def test_an_error_during_a_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"
    target.write_text("old")

    def fail(error: type[BaseException]) -> None:
        with whole_file(target) as scratch:
            scratch.write_text("half of the n")
            raise error

    for error in (ValueError, KeyboardInterrupt):  # an interrupt is not an Exception
        with pytest.raises(error):
            fail(error)
    assert (names(tmp_path), target.read_text()) == (["rows.jsonl"], "old")


def test_an_error_before_the_first_byte_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"), whole_file(tmp_path / "rows.jsonl"):
        raise ValueError("no rows")


def test_a_target_that_cannot_be_replaced_leaves_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "rows.jsonl", "new")
    assert names(tmp_path) == ["rows.jsonl"]


def test_the_error_of_a_read_only_folder_is_not_hidden_by_the_clean_up() -> None:
    # The tests may run as root, which ignores modes; a folder of the kernel refuses root, too.
    with pytest.raises(OSError, match=re.escape("/proc/self/fdinfo/x")) as caught:
        write_text(Path("/proc/self/fdinfo/x"), "new")
    assert caught.value.__context__ is None


def test_a_file_in_the_place_of_the_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "file" / "x", "new")


def test_two_threads_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    target, both = tmp_path / "rows.jsonl", threading.Barrier(2)
    errors: list[BaseException] = []

    def one(letter: str) -> None:
        try:
            for _ in range(50):
                with whole_file(target) as scratch:
                    scratch.write_text(letter * 1000)
                    both.wait(60)  # each has its scratch now, and neither has renamed it
                assert set(target.read_text()) in ({"a"}, {"b"})
        except BaseException as error:
            both.abort()
            errors.append(error)

    threads = [threading.Thread(target=one, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert names(tmp_path) == ["rows.jsonl"]


def test_a_scratch_name_is_hidden_and_matches_no_reader(tmp_path: Path) -> None:
    scratch = beside(tmp_path / "DONE.3.json")
    scratch.write_text("{")
    assert scratch.parent == tmp_path
    assert scratch.name.startswith(".DONE.3.json.")
    assert not list(tmp_path.glob("*.json"))  # pathlib's glob sees hidden files
    assert not list(tmp_path.glob("DONE*"))
    assert len({beside(tmp_path / "DONE.3.json") for _ in range(1000)}) == 1000


def test_a_link_can_be_renamed_into_place_too(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_text("one")
    (tmp_path / "2.log").write_text("two")
    for name in ("1.log", "2.log"):
        with whole_file(tmp_path / "latest.log") as scratch:
            scratch.symlink_to(name)
    assert (tmp_path / "latest.log").readlink() == Path("2.log")


def test_a_secret_is_never_readable_by_others_and_other_files_obey_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "token", "secret", mode=0o600)
        write_bytes(tmp_path / "page", b"page")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("token", "page")] == [0o600, 0o640]


def test_json_keeps_every_text_even_half_a_surrogate_pair(tmp_path: Path) -> None:
    value = {"名": "ünï", "broken": "\ud83d", "line": "a\nb"}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "名" in text
    assert text.endswith("}\n")


class Lines(WholeFileWriter):
    """Writes a last line at a clean end, as a file with a footer does."""

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        with scratch.open("w") as self.file:
            yield
            self.file.write("end\n")


def test_a_writer_ends_its_file_and_names_it_only_at_a_clean_end(tmp_path: Path) -> None:
    def write(error: BaseException | None = None) -> None:
        with Lines(tmp_path / "lines") as lines:
            lines.file.write("one\n")
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt())
    assert names(tmp_path) == []
    write()
    assert (names(tmp_path), (tmp_path / "lines").read_text()) == (["lines"], "one\nend\n")


def test_importing_it_loads_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import proxygrm.core.files.whole_file; "
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in done} <= {"proxygrm", *sys.stdlib_module_names}


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/proxygrm-test")):  # not a device that others need, should this fail
        with pytest.raises(OSError, match="a device or a pipe"):
            write_text(path, "x")
    assert pipe.is_fifo()
