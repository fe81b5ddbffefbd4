"""The exact messages about a VisualPRM release and a solutions folder; everywhere else tests assert codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.solutions.release import annotations_of
from data_tools.solutions.run import write_solutions
from proxygrm.core.errors import UserError
from proxygrm.process.solutions import check_solutions, read_solutions
from support.rows.release_files import jsonl
from support.rows.visualprm_files import conversation, outcome, v11, write_shades

EXPECTED = "the unpacked folder of VisualPRM400K, -v1.1 or -v1.1-Raw (annotations, images, perhaps meta.json)"
UNPACK = (
    "unpack it first (the parts of a split archive are joined in the order of their names: cat NAME.zip_* > NAME.zip); "
    f"give {EXPECTED}"
)
ROW = conversation(["a"], ["+"])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases with one fault each; messages name the working folder as {cwd}."""
    monkeypatch.chdir(tmp_path)
    here = Path()
    v11(here / "good", {"A": [ROW], "B": [ROW]}, {"A": {"0.png": 1}, "B": {"0.png": 2}})
    jsonl(here / "good" / "annotations" / "other.jsonl", [ROW])
    v11(here / "cut", {"A": [ROW], "B": [ROW]}, {"A": {"0.png": 1}})
    v11(here / "half", {"A": [ROW], "B": [ROW]}, {"A": {"0.png": 1}, "B": {"0.png": 2}})
    (here / "half" / "annotations" / "b_prm.jsonl").unlink()
    v11(here / "packed", {"A": [ROW]}, {})
    for name in ("images.zip_aa", "images.zip_ab"):
        (here / "packed" / name).touch()
    (here / "zipped").mkdir()
    (here / "zipped" / "annotations.zip").touch()
    jsonl(here / "v1" / "annotations" / "chartqa_prm.jsonl", [ROW])
    write_shades(here / "v1" / "images" / "ai2d", {"0.png": 1})
    for name, meta in (("list", []), ("bare", {"A": {"root": "x"}})):
        (here / name).mkdir()
        (here / name / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    v11(here / "whole", {"A": [outcome("a\n\nb", "+")]}, {"A": {"0.png": 1}})
    jsonl(here / "made" / "pairs.jsonl", [])
    jsonl(here / "rows" / "pairs.jsonl", [])
    jsonl(here / "rows" / "solutions.jsonl", [{"id": "a", "steps": ["x"], "labels": [0]}])


MESSAGES: list[tuple[str, Callable[[], object], str]] = [
    ("file.missing", lambda: annotations_of(Path("gone")), f"gone does not exist; give {EXPECTED}"),
    ("data.unknown-subset", lambda: annotations_of(Path("good"), ["C"]),
     "{cwd}/good has no subset 'C'; its subsets are: A, B"),
    ("data.unlisted-annotations", lambda: annotations_of(Path("good/annotations/other.jsonl")),
     "{cwd}/good/meta.json does not list other.jsonl; give the folder of the release, or add the file there"),
    ("data.subset-without-images", lambda: annotations_of(Path("cut")),
     "{cwd}/cut: 1 subsets have no folder of images below {cwd}/cut/images (first: B: VisualPRM400K-v1.1/images/B); "
     "unpack them, name each folder in meta.json, or choose other subsets with --subset NAME"),
    ("data.subset-without-images", lambda: annotations_of(Path("v1")),
     "{cwd}/v1: 1 subsets have no folder of images below {cwd}/v1/images (first: chartqa: "
     "annotations/chartqa_prm.jsonl); unpack them, name each folder in meta.json, or choose other subsets with "
     "--subset NAME"),
    ("data.subset-without-annotations", lambda: annotations_of(Path("half")),
     "{cwd}/half/meta.json: 1 subsets have no annotations in {cwd}/half (first: B: VisualPRM400K-v1.1/annotations/"
     "b_prm.jsonl); download them, or choose others with --subset NAME"),
    ("data.packed", lambda: annotations_of(Path("packed")),
     "{cwd}/packed has no images of A: VisualPRM400K-v1.1/images/A, but images.zip_aa: " + UNPACK),
    ("data.packed", lambda: annotations_of(Path("zipped")),
     "{cwd}/zipped has no annotations, but annotations.zip: " + UNPACK),
    ("data.bad-meta", lambda: annotations_of(Path("list")),
     "{cwd}/list/meta.json: it names no subset; it must be {NAME: {root, annotation, length}}"),
    ("data.bad-meta", lambda: annotations_of(Path("bare")),
     "{cwd}/bare/meta.json: 'A' lacks root or annotation; it must be {NAME: {root, annotation, length}}"),
    ("option.bad-out", lambda: write_solutions(Path("good"), Path("good")),
     "--out good must be a folder, and none of the release's own"),
    ("data.no-usable-rows", lambda: write_solutions(Path("whole"), Path("out")),
     "none of 1 rows of {cwd}/whole/annotations/a_prm.jsonl could be used ({'outcome': 1})"),
    ("data.not-a-solutions-folder", lambda: check_solutions(Path("made")),
     "made has no solutions.jsonl; make a solutions folder with `proxygrm data solutions RELEASE --out DIR`"),
    ("data.bad-solution", lambda: list(read_solutions(Path("rows"))),
     "rows/solutions.jsonl row 1: labels must be a list of 1, -1 and null; make the folder again"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "call", "message"), MESSAGES)
def test_every_error_has_its_code_and_message(files: None, code: str, call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert (caught.value.code, str(caught.value)) == (code, message.replace("{cwd}", str(Path.cwd())))
