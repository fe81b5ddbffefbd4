"""Given inputs that a job could not use are refused by the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.stages import checks
from support.refusals import refused


def test_rows_are_a_jsonl_that_begins_with_an_object(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('\n{"question": "How many?"}\n')
    checks.json_lines(str(file)).check(file)
    with refused("file.missing", path=tmp_path / "none"):
        checks.json_lines("none").check(tmp_path / "none")
    with refused("file.not-a-file", path=tmp_path):
        checks.json_lines(str(tmp_path)).check(tmp_path)


@pytest.mark.parametrize("text", ["", "\n \n", "[]\n", "7", "{", '{"a": 1} x\n'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with refused("file.bad-row", path=file):
        checks.json_lines(str(file)).check(file)


def test_of_the_folder_of_images_only_those_that_the_rows_name_count(tmp_path: Path) -> None:
    def identity() -> str:
        checks._named_images.cache_clear()
        return checks.NamedImages(str(tmp_path), rows=str(rows)).identity()

    rows, image = tmp_path / "rows.jsonl", tmp_path / "a" / "1.png"
    assert identity() == f"missing:{tmp_path}"
    lines = ['{"question": "q", "image": ["a/1.png", "2.png"]}', "null", "{", '{"image": 3}', '{"image": "\\ud800"}']
    lines += ['{"image": "%s"}' % ("x" * 5000), '{"image": "nul\\u0000"}', "[" * 100_000, "{}"]
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    without = identity()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "policy.jsonl").write_text("{}\n")
    assert identity() == without
    image.parent.mkdir()
    image.write_bytes(b"123")
    small = identity()
    image.write_bytes(b"1234")
    assert len({without, small, identity()}) == 3
