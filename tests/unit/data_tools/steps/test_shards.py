from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.steps.shards import Shard, Step, all_shards, carry_out, run_shards, stamp_of
from data_tools.steps.stale_parts import hold_parts
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from support.refusals import refused


@given(total=st.integers(0, 500), count=st.integers(1, 40))
def test_every_position_belongs_to_exactly_one_shard_and_in_order(total, count):
    positions = [position for shard in all_shards(count) for position in shard.span(total)]
    assert positions == list(range(total))
    sizes = [len(shard.span(total)) for shard in all_shards(count)]
    assert max(sizes) - min(sizes) <= 1


@given(count=st.integers(1, 99_999), data=st.data())
def test_a_shard_reads_back_what_it_writes(count, data):
    shard = Shard(data.draw(st.integers(0, count - 1)), count)
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "-1/3", "1/0", "a/b", "1/2/3", "1.0/2", "²/3", "1/100000"])
def test_an_invalid_shard_is_refused(text):
    with refused("option.bad-shard", text=text):
        Shard.parse(text)


def test_parts_sort_in_the_order_of_their_shards():
    names = [shard.path(Path("pairs.parquet")).name for shard in all_shards(12)]
    assert names == sorted(names)
    assert names[2] == "pairs-00003-of-00012.parquet"


def write_part(shard: Shard, parts: Path) -> None:
    (parts / f"{shard.index}.txt").write_text(f"{shard}\n")
    with (parts.parent / "ran.log").open("a") as log:
        log.write(f"{shard}\n")


def has_part(shard: Shard, parts: Path) -> bool:
    return (parts / f"{shard.index}.txt").is_file()


def join(out: Path, shards: list[Shard], parts: Path) -> dict:
    (out / "all.txt").write_text("".join((parts / f"{shard.index}.txt").read_text() for shard in shards))
    return {"parts": len(shards)}


def step_in(out: Path, options: str = "a") -> Step:
    out.mkdir(exist_ok=True)
    return Step(
        "demo", out, "report.json", stamp_of(options, []), write_part, has_part, partial(join, out), out / "all.txt"
    )  # fmt: skip


def test_an_interrupted_step_resumes_at_the_missing_shard_and_a_finished_one_is_not_repeated(tmp_path):
    step = step_in(tmp_path / "out")
    for shard in (Shard(0, 3), Shard(2, 3)):
        step.run_one(shard)
    with refused("data.shards-missing", missing=1, count=3, first="2/3"):
        step.finish(3)
    progress = []
    assert carry_out(step, 3, 1, lambda done, total: progress.append((done, total))) == {
        "stamp": step.stamp,
        "parts": 3,
    }
    assert progress == [(2, 3), (3, 3)]
    assert (tmp_path / "out" / "all.txt").read_text() == "1/3\n2/3\n3/3\n"
    assert (tmp_path / "out" / "ran.log").read_text() == "1/3\n3/3\n2/3\n"
    assert not step.parts.exists()
    assert carry_out(step, 3, 1)["parts"] == 3
    assert (tmp_path / "out" / "ran.log").read_text().count("\n") == 3


def test_other_options_are_another_step(tmp_path):
    carry_out(step_in(tmp_path / "out"), 2, 1)
    other = step_in(tmp_path / "out", "b")
    assert other.finished() is None
    assert carry_out(other, 1, 1)["parts"] == 1
    (tmp_path / "out" / "report.json").write_text("[]")
    assert other.finished() is None


def fail_after_the_first(shard: Shard, parts: Path) -> None:
    if shard.index:
        raise UserError("the disk is full", code="file.disk-full")
    write_part(shard, parts)


def failed(out: Path, options: str, report: str = "report.json") -> Step:
    step = replace(step_in(out, options), run=fail_after_the_first, report=report)
    with refused("file.disk-full"):
        carry_out(step, 2, 1)
    assert step.parts.is_dir()
    return step


def hidden(out: Path) -> list[str]:
    return [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_parts_of_a_failed_run_are_removed_when_a_run_with_other_options_starts(tmp_path):
    failed(tmp_path / "out", "old")
    failed(tmp_path / "out", "newer")
    assert len(hidden(tmp_path / "out")) == 2  # parts of the newer one, and its note
    carry_out(step_in(tmp_path / "out", "newest"), 2, 1)
    assert not hidden(tmp_path / "out")


def test_parts_of_a_run_that_is_resumed_run_by_hand_still_running_or_for_another_result_are_kept(tmp_path):
    out = tmp_path / "out"
    failed(out, "a")
    carry_out(step_in(out, "a"), 2, 1)
    assert (out / "ran.log").read_text() == "1/2\n2/2\n"  # the first part was there
    by_hand = step_in(out, "b")
    by_hand.run_one(Shard(0, 2))
    still_running = step_in(out, "c")
    with hold_parts(still_running.parts, still_running.report):
        still_running.make_part(Shard(0, 2))
        another = failed(out, "d", report="other.json")
        carry_out(step_in(out, "e"), 2, 1)
        assert all(step.parts.is_dir() for step in (by_hand, still_running, another))
    failed_then_by_hand = failed(out, "f")
    failed_then_by_hand.run_one(Shard(0, 2))
    carry_out(step_in(out, "g"), 2, 1)
    assert all(step.parts.is_dir() for step in (by_hand, another, failed_then_by_hand))
    assert not still_running.parts.exists()


def test_a_report_without_its_result_does_not_count(tmp_path):
    step = step_in(tmp_path / "out")
    carry_out(step, 2, 1)
    (tmp_path / "out" / "all.txt").unlink()
    assert step.finished() is None
    assert carry_out(step, 2, 1)["parts"] == 2
    assert (tmp_path / "out" / "all.txt").read_text() == "1/2\n2/2\n"


def fail_in_the_second(shard: Shard) -> None:
    if shard.index == 1:
        raise UserError("the disk is full", code="file.disk-full")


def never(shard: Shard) -> bool:
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_the_step(workers):
    with refused("file.disk-full"):
        run_shards(fail_in_the_second, never, all_shards(3), workers)


def test_the_stamp_changes_with_the_input(tmp_path):
    path = tmp_path / "x"
    path.write_text("a")
    before = stamp_of({"k": 1}, [path])
    assert before == stamp_of({"k": 1}, [path])
    path.write_text("ab")
    assert before != stamp_of({"k": 1}, [path])


def test_json_is_written_atomically(tmp_path):
    write_json(tmp_path / "a.json", {"ü": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
