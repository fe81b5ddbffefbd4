"""JSONL with row numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows, numbered_lines


def test_blank_lines_count_in_the_numbers_and_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_bytes(b'\n{"a": "\xc3\xa9"}\r\n \t\n[2]\n\n3')
    assert list(numbered_lines(tmp_path / "a b.jsonl")) == [(2, b'{"a": "\xc3\xa9"}\r\n'), (4, b"[2]\n"), (6, b"3")]
    assert list(json_rows(tmp_path / "a b.jsonl")) == [(2, {"a": "é"}), (4, [2]), (6, 3)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'1\n\n{"a": 1', "row 3 is cut off"),
        (b'1\n{"a": 1\n3\n', "row 2 is not JSON"),
        (b'"\xff"\n', "row 1 is not JSON"),
        (b"[" * 100_000 + b"\n", "row 1 is not JSON .it is nested too deeply"),
    ],
)
def test_a_row_that_is_no_json_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(json_rows(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[\n  {},\n  {}\n]\n", "is one JSON list"),
        (b'\xef\xbb\xbf[{"a": 1}]', "is one JSON list"),
        (b"PAR1\x15\x04", "is a parquet file"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (b"\x28\xb5\x2f\xfd\x00", "unzstd"),
        (b"PK\x03\x04\x14", "unzip"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        list(numbered_lines(tmp_path / "rows.jsonl"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_for_the_caller_to_tell(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(json_rows(tmp_path / "rows.jsonl"))
