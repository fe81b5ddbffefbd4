"""JSONL with row numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.files.json_lines import json_rows, numbered_lines, object_rows
from support.refusals import refused


def test_blank_lines_count_in_the_numbers_and_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_bytes(b'\n{"a": "\xc3\xa9"}\r\n \t\n[2]\n\n3')
    assert list(numbered_lines(tmp_path / "a b.jsonl")) == [(2, b'{"a": "\xc3\xa9"}\r\n'), (4, b"[2]\n"), (6, b"3")]
    assert list(json_rows(tmp_path / "a b.jsonl")) == [(2, {"a": "é"}), (4, [2]), (6, 3)]


@pytest.mark.parametrize(
    ("content", "row", "problem"),
    [
        (b'1\n\n{"a": 1', 3, "is cut off"),
        (b'1\n{"a": 1\n3\n', 2, "is not JSON"),
        (b'"\xff"\n', 1, "is not UTF-8"),
        ('{"a": "é"}'.encode("latin-1"), 1, "is not UTF-8"),
        ('1\n{"a": "é'.encode()[:-1], 2, "is cut off"),
        (b"[" * 100_000 + b"\n", 1, "is not JSON (it is nested too deeply"),
    ],
)
def test_a_row_that_is_not_json_is_named(tmp_path: Path, content: bytes, row: int, problem: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with refused("file.bad-row", path=file, row=row) as caught:
        list(json_rows(file))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "code", "hint"),
    [
        (b"[\n  {},\n  {}\n]\n", "file.json-list", "jq"),
        (b'\xef\xbb\xbf[{"a": 1}]', "file.json-list", "jq"),
        (b"PAR1\x15\x04", "file.not-text", "parquet"),
        (b"\x1f\x8b\x08\x00", "file.not-text", "gunzip"),
        (b"\x28\xb5\x2f\xfd\x00", "file.not-text", "unzstd"),
        (b"PK\x03\x04\x14", "file.not-text", "unzip"),
        ('{"a": 1}'.encode("utf-16"), "file.not-text", "UTF-16"),
    ],
)
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path: Path, content: bytes, code: str, hint: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with refused(code, path=file) as caught:
        list(numbered_lines(file))
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(json_rows(tmp_path / "rows.jsonl"))


def test_a_path_that_is_no_file_is_not_called_missing(tmp_path: Path) -> None:
    with refused("file.not-a-file", path=tmp_path):
        next(object_rows(tmp_path))
    with refused("file.missing", path=tmp_path / "gone"):
        next(object_rows(tmp_path / "gone"))
