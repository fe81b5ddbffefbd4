from __future__ import annotations

import json

import pytest

from data_tools.bench_jsonl import blank_picture, ingest
from data_tools.preference import read_pairs
from proxygrm.errors import UserError


def row(i, **changes):
    return {"id": f"RLAIF-V-{i}", "prompt": "What?", "chosen": "good", "rejected": "bad", "image": f"img/{i}.png",
            "chosen_reason": "", "rejected_reason": ""} | changes  # fmt: skip


@pytest.fixture
def bench(tmp_path):
    def write(rows, pictures=()):
        path = tmp_path / "my bench.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        (tmp_path / "img").mkdir(exist_ok=True)
        for i in pictures:
            (tmp_path / "img" / f"{i}.png").write_bytes(blank_picture(20 + i))
        return path

    return write


def test_rows_become_pairs_with_their_pictures(bench, tmp_path):
    report = ingest(bench([row(i) for i in range(20)], range(20)), tmp_path / "out")
    pairs = read_pairs(tmp_path / "out")
    assert (report.read, report.kept, report.blank_pictures, report.dropped) == (20, 20, 0, {})
    assert pairs[0].id == "my bench:RLAIF-V-0"
    assert {p.label for p in pairs} == {1, 2}
    assert all((p.response_1, p.response_2)[p.label - 1] == "good" for p in pairs)
    assert len({p.images for p in pairs}) == 20


def test_missing_pictures_are_refused_with_their_number_and_the_option(bench, tmp_path):
    path = bench([row(i) for i in range(5)], [0, 1])
    with pytest.raises(UserError, match=r"3 pictures are missing .*img/2\.png.*--missing-images blank"):
        ingest(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_blank_pictures_are_counted(bench, tmp_path):
    report = ingest(bench([row(i) for i in range(5)], [0, 1]), tmp_path / "out", missing_images="blank")
    assert (report.kept, report.blank_pictures) == (5, 3)


def test_a_repeated_id_gets_a_number_and_unusable_rows_are_counted(bench, tmp_path):
    rows = [row(0), row(0, prompt="Other?"), row(1, chosen=" "), row(2, rejected="good"), row(3, video="v.mp4")]
    report = ingest(bench([*rows, row(4, image=None), row(5)], [0, 5]), tmp_path / "out", limit=6)
    assert report.dropped == {"empty_text": 1, "same_responses": 1, "video": 1}
    assert (report.read, report.repeated_ids) == (6, 1)
    pairs = read_pairs(tmp_path / "out")
    assert [p.id for p in pairs] == ["my bench:RLAIF-V-0", "my bench:RLAIF-V-0#2", "my bench:RLAIF-V-4"]
    assert pairs[2].images == ()


def test_pictures_may_lie_elsewhere_and_broken_ones_are_counted(bench, tmp_path):
    path = bench([row(0), row(1)])
    elsewhere = tmp_path / "else where"
    (elsewhere / "img").mkdir(parents=True)
    (elsewhere / "img" / "0.png").write_bytes(blank_picture())
    (elsewhere / "img" / "1.png").write_bytes(b"broken")
    report = ingest(path, tmp_path / "out", images_root=elsewhere)
    assert (report.kept, report.dropped) == (1, {"unreadable_picture": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"id": 1}\n', "line 1 lacks prompt, chosen, rejected"), ("\n{\n", "line 2 is not JSON"), ("[]\n", "lacks id")],
)
def test_a_line_that_is_no_row_is_named_by_its_number(tmp_path, text, message):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        ingest(tmp_path / "x.jsonl", tmp_path / "out")


def test_wrong_settings_and_files_are_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        ingest(tmp_path / "no.jsonl", tmp_path / "out")
    with pytest.raises(UserError, match="refuse or blank"):
        ingest(tmp_path / "no.jsonl", tmp_path / "out", missing_images="maybe")  # type: ignore[arg-type]
