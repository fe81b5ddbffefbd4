"""Releases -> solutions folders: nasty rows, images of their own subset, pairs, shards, and a build that is killed."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_tools.rows.preference import image_hash
from data_tools.solutions.run import solutions_step, write_solutions
from data_tools.solutions.settings import SolutionOptions
from data_tools.steps.shards import Shard, carry_out
from proxygrm.core.images.settle import pixels
from proxygrm.process.solutions import Solution, read_solution_pairs, read_solutions
from support.refusals import refused
from support.rows.release_files import adds_up, image_bytes, jsonl
from support.rows.visualprm_files import conversation, left_out, lines, outcome, scored, v11, write_shades

LOOSE = {"max_bad": 1.0}
SHADES = {f"{shade}.png": shade for shade in range(6)}


def solutions(folder: Path) -> dict[str, Solution]:
    """The solutions by their ids, which the folder's own reader takes."""
    return {each.id: each for each in read_solutions(folder)}


def content(folder: Path) -> dict[str, Any]:
    """Every file of a solutions folder, without the stamp."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = json.loads(files.pop("report.json"))
    return files | {"report": {key: value for key, value in report.items() if key != "stamp"}}


def nasty(shift: int) -> list[Any]:
    """Rows of every kind; `shift` makes those of another subset."""
    rows: list[Any] = []
    for number in range(120):
        row = conversation(
            [f"{shift} sees {number}", "3 + 2 = 5.", "Answer: 5"],
            ["+", "+-"[number % 2], "+-"[number // 12 % 2]],
            f"How many are {number % 12}?",
            f"{number % 6}.png",
        )
        turns = row["conversations"]
        match number % 11:
            case 3:
                row["image"] = "gone.png"
            case 4:
                turns[-1]["value"] = ["?", None, "correct"][number % 3]
            case 5:
                row = outcome(f"{shift} sees {number}\n\nAnswer: 5", "+-"[number % 2], "Which?", f"{number % 6}.png")
            case 6:
                row["image"] = [f"{number % 6}.png", f"{(number + 1) % 6}.png"]
            case 7:
                row = scored([("a", 16, 16), (f"b {number}", 0, 16), ("c", 0, 0)], "Raw?", f"{number % 6}.png")
            case 8:
                row["conversations"] = turns[:-1]
            case 9:
                row = "not an object" if number % 2 else {"question": "q"}
        rows.append(row)
    return [*rows, rows[0], rows[1]]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subsets whose images have the same names and other contents."""
    images = {"UniGeo": SHADES, "Geo170K": {name: shade + 100 for name, shade in SHADES.items()}}
    return v11(tmp_path_factory.mktemp("release"), {"UniGeo": nasty(0), "Geo170K": nasty(1)}, images)


@pytest.fixture(scope="module")
def whole(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    write_solutions(release, out, **LOOSE)
    return out


def test_every_row_is_a_solution_or_counted_by_its_cause(whole: Path) -> None:
    report = json.loads((whole / "report.json").read_text())
    assert report["read"] == 244
    assert adds_up(report)
    assert report["bad"] == {
        "bad_turns": 22, "bad_verdict": 22, "missing_image": 22, "not_an_object": 12, "unknown_layout": 10,
    }  # fmt: skip
    assert report["dropped"] == {"duplicate": 4, "outcome": 22}
    assert report["other_verdicts"] == {"'?'": 8, "None": 8, "'correct'": 6}
    assert report["kept"] == len(solutions(whole)) == report["subsets"]["UniGeo"]["kept"] * 2
    assert report["outcomes"] == len(lines(whole / "outcomes.jsonl")) == 22
    assert len(left_out(whole)) == 244 - report["kept"]
    assert left_out(whole)[0] == ("annotations/geo170k_prm.jsonl", 4, "missing_image")


def test_an_image_is_that_of_its_subset_though_another_has_its_name(release: Path, whole: Path) -> None:
    for solution in solutions(whole).values():
        _, file, number = solution.id.split(":")
        named = json.loads((release / file).read_text().splitlines()[int(number) - 1])["image"]
        for path, name in zip(solution.image_paths(whole), [named] if isinstance(named, str) else named, strict=True):
            assert path.read_bytes() == (release / "images" / solution.subset / name).read_bytes()
            assert path.read_bytes() == image_bytes(SHADES[name] + 100 * (solution.subset == "Geo170K"))
    report = json.loads((whole / "report.json").read_text())
    assert (report["images"], report["names_in_several_subsets"]) == (12, 7)  # gone.png, too


def test_an_image_that_only_another_subset_has_is_missing(tmp_path: Path) -> None:
    rows = [conversation(["a"], ["+"], image=name) for name in ("1.png", "../B/2.png", "2.png")]
    release = v11(tmp_path / "r", {"A": rows, "B": rows[2:]}, {"A": {"1.png": 1}, "B": {"2.png": 2}})
    out = tmp_path / "out"
    write_solutions(release, out, **LOOSE)
    file = "annotations/a_prm.jsonl"
    assert list(solutions(out)) == [f"A:{file}:1", "B:annotations/b_prm.jsonl:1"]
    assert left_out(out) == [(file, 2, "image_outside_root"), (file, 3, "missing_image")]


def test_pairs_join_a_right_and_a_wrong_solution_of_one_question_and_image(whole: Path) -> None:
    found, pairs = solutions(whole), list(read_solution_pairs(whole))
    used = {each for pair in pairs for each in (pair.right, pair.wrong)}
    sides: dict[Any, set[bool | None]] = {}
    for each in found.values():
        sides.setdefault(each.key, set()).add(each.right)
    assert used == {each.id for each in found.values() if {True, False} <= sides[each.key]}
    assert len(pairs) > 10
    for pair in pairs:
        right, wrong = found[pair.right], found[pair.wrong]
        assert (right.right, wrong.right, right.subset) == (True, False, wrong.subset)
        assert (pair.question, pair.images) == (right.question, right.images)
        assert right.key == wrong.key


def test_rows_of_a_question_that_do_not_follow_each_other_are_a_pair_by_their_last_label(tmp_path: Path) -> None:
    rows = [
        conversation(["a", "b"], ["-", "+"]),
        conversation(["x"], ["+"], "Which?"),
        conversation(["a", "c"], ["+", "-"]),
        conversation(["y"], ["-"], "Which?", "1.png"),
    ]
    out = tmp_path / "out"
    write_solutions(v11(tmp_path / "r", {"A": rows}, {"A": SHADES}), out)
    file = "A:annotations/a_prm.jsonl"
    assert [(pair.right, pair.wrong) for pair in read_solution_pairs(out)] == [(f"{file}:1", f"{file}:3")]


def test_several_files_of_a_subset_pair_with_each_other(tmp_path: Path) -> None:
    jsonl(tmp_path / "annotations" / "geomverse_extracted_prm_process.jsonl", [conversation(["a"], ["+"])])
    jsonl(tmp_path / "annotations" / "geomverse_b.jsonl", [conversation(["b"], ["-"])])
    jsonl(tmp_path / "annotations" / "ai2d_prm.jsonl", [conversation(["b"], ["-"])])  # another image of that name
    write_shades(tmp_path / "images" / "GeomVerse", {"0.png": 1})
    write_shades(tmp_path / "images" / "ai2d", {"0.png": 2})
    assert write_solutions(tmp_path, tmp_path / "out")["pairs"] == 1
    (pair,) = read_solution_pairs(tmp_path / "out")
    assert pair.right == "GeomVerse:annotations/geomverse_extracted_prm_process.jsonl:1"
    assert pair.wrong == "GeomVerse:annotations/geomverse_b.jsonl:1"


def test_raw_scores_become_labels_and_what_was_not_measured_is_null(tmp_path: Path) -> None:
    row = scored([("a", 16, 16), ("b", 4, 16), ("c", 0, 16), ("d", 0, 0)], image="VisualPRM400K-v1.1-Raw/ai2d/0.png")
    jsonl(tmp_path / "annotations" / "ai2d_train_extracted.jsonl", [row])
    write_shades(tmp_path / "images" / "ai2d", {"0.png": 1})
    for threshold, labels in ((0.0, [1, 1, -1, None]), (0.25, [1, -1, -1, None])):
        out = tmp_path / f"out-{threshold}"
        report = write_solutions(tmp_path, out, SolutionOptions(threshold=threshold))
        (made,) = lines(out / "solutions.jsonl")
        assert (made["labels"], made["scores"]) == (labels, [1.0, 0.25, 0.0, None])
        assert (made["right"], made["answer"], made["subset"]) == (False, "5", "ai2d")
        assert report["steps"]["unknown"] == 1


def test_outcomes_are_apart_or_included_as_solutions_with_unknown_steps(tmp_path: Path) -> None:
    rows = [conversation(["a", "b"], ["+", "+"]), outcome("a\n\nc", "-"), outcome("a\n\nd", "+")]
    release = v11(tmp_path / "r", {"A": rows}, {"A": SHADES})
    apart = write_solutions(release, tmp_path / "out")
    assert (apart["kept"], apart["outcomes"], apart["pairs"]) == (1, 2, 0)
    assert [row["labels"] for row in lines(tmp_path / "out" / "outcomes.jsonl")] == [[None, None]] * 2
    included = write_solutions(release, tmp_path / "out", SolutionOptions(outcomes="include"))
    assert (included["kept"], included["outcomes"], included["pairs"]) == (3, 0, 2)
    assert not (tmp_path / "out" / "outcomes.jsonl").exists()


def test_of_a_response_in_both_forms_the_one_with_labelled_steps_stays(tmp_path: Path) -> None:
    rows = [outcome("a\n\nb", "+"), conversation(["a", "b"], ["+", "+"]), outcome("a\n\nb", "-", "Which?")]
    out = tmp_path / "out"
    write_solutions(v11(tmp_path / "r", {"A": rows}, {"A": SHADES}), out, SolutionOptions(outcomes="include"))
    assert [each.labels for each in solutions(out).values()] == [(1, 1), (None, None)]
    assert left_out(out) == [("annotations/a_prm.jsonl", 1, "duplicate")]


def test_another_process_can_run_a_part(release: Path, tmp_path: Path) -> None:
    step = pickle.loads(pickle.dumps(solutions_step(release, tmp_path / "out", **LOOSE)))
    step.run_one(Shard(1, 8))
    assert step.done(Shard(1, 8), step.parts)


def test_questions_are_drawn_whole_and_only_paired_solutions_kept_on_request(release: Path, tmp_path: Path) -> None:
    paired = write_solutions(release, tmp_path / "p", SolutionOptions(paired_only=True), **LOOSE)
    used = {each for pair in read_solution_pairs(tmp_path / "p") for each in (pair.right, pair.wrong)}
    assert set(solutions(tmp_path / "p")) == used
    few = write_solutions(release, tmp_path / "f", SolutionOptions(questions=3, paired_only=True, seed=1), **LOOSE)
    assert (few["questions"], few["options"]["questions"]) == (3, 3)
    assert few["kept"] >= 6
    assert few["dropped"]["not_drawn"] == paired["kept"] - few["kept"]
    assert set(solutions(tmp_path / "f")) < set(solutions(tmp_path / "p"))
    assert adds_up(few)


def test_images_are_settled_once_and_stored_by_their_content(tmp_path: Path) -> None:
    release = v11(
        tmp_path / "r", {"A": [conversation(["a"], ["+"]), conversation(["b"], ["+"], image="c.png")]}, {"A": {}}
    )
    folder = release / "images" / "A"
    folder.mkdir(parents=True)
    image = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 0, 0, 0)).save(image, "PNG")
    (folder / "0.png").write_bytes(image.getvalue())
    (folder / "c.png").write_bytes(image.getvalue())
    report = write_solutions(release, tmp_path / "out")
    first, second = solutions(tmp_path / "out").values()
    assert first.images == second.images
    (path,) = first.image_paths(tmp_path / "out")
    assert image_hash(path.name) != path.stem
    assert pixels(path.read_bytes()).getpixel((0, 0)) == (255, 255, 255)
    assert (report["images"], report["notes"]["image_on_white"]) == (1, 2)


def test_unreadable_images_texts_and_lines_are_counted(tmp_path: Path) -> None:
    good = conversation(["a"], ["+"])
    rows = [good, conversation(["b"], ["+"], image="cut.png"), conversation(["c\ud800"], ["+"]),
            conversation(["e"], ["+"], " "), conversation(["f"], ["+"], image=7),
            scored([("g", 1, 1)], image=None) | {"question": "q"}]  # fmt: skip
    release = v11(tmp_path / "r", {"A": rows}, {"A": SHADES})
    (release / "images" / "A" / "cut.png").write_bytes(image_bytes(1)[:40])
    with (release / "annotations" / "a_prm.jsonl").open("ab") as file:
        file.write(b"\n{not json\n" + json.dumps(good).encode()[:50])
    report = write_solutions(release, tmp_path / "out", **LOOSE)
    bad = ("bad_image", "cut_off", "empty_question", "unreadable_image")
    assert report["bad"] == dict.fromkeys(bad, 1) | {"not_json": 2}
    assert report["dropped"] == {"no_image": 1}
    assert (report["read"], report["kept"]) == (8, 1)
    assert report["other_lengths"] == {"A": 6}


def test_lone_surrogates_of_one_json_array_are_counted(tmp_path: Path) -> None:
    steps = [("a", 1, 1)]
    rows = [scored(steps), scored([("\ud800", 1, 1)]), scored(steps, "\ud800"), scored(steps, answer="\ud800"),
            scored(steps, image="\ud800.png")]  # fmt: skip
    write_shades(tmp_path / "images" / "ai2d", {"0.png": 1})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "ai2d.json").write_text(json.dumps(rows), encoding="utf-8")
    report = write_solutions(tmp_path, tmp_path / "out", **LOOSE)
    assert (report["bad"], report["kept"]) == ({"missing_image": 1, "not_unicode": 3}, 1)


def test_too_many_bad_rows_leave_nothing_under_a_final_name(release: Path, tmp_path: Path) -> None:
    with refused("data.too-many-bad-rows", read=244):
        write_solutions(release, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".jsonl"} == {"dropped.refused.jsonl"}


def test_a_release_without_a_usable_row_is_refused_with_the_causes(tmp_path: Path) -> None:
    release = v11(tmp_path / "r", {"A": [outcome("a\n\nb", "+")]}, {"A": SHADES})
    with refused("data.no-usable-rows", excluded={"outcome": 1}):
        write_solutions(release, tmp_path / "out")


def test_a_file_or_a_folder_of_the_release_as_the_folder_to_write_is_refused(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    own = (release, release / "annotations", release / "images", release / "images" / "UniGeo")
    for out in (tmp_path / "out", *own):
        with refused("option.bad-out", path=out):
            solutions_step(release, out)
    solutions_step(release, release / "solutions")


@pytest.mark.parametrize("count", [3, 7])
def test_the_result_does_not_depend_on_the_number_of_shards(
    release: Path, whole: Path, tmp_path: Path, count: int
) -> None:
    carry_out(solutions_step(release, tmp_path / "cut", **LOOSE), count, workers=1)
    assert content(tmp_path / "cut") == content(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from data_tools.ingest.linked_images import LinkedImages
from data_tools.rows.preference import ImageStore
from data_tools.solutions.run import solutions_step
from data_tools.steps.shards import Shard, carry_out

release, out, after, kind = sys.argv[1:]
calls = 0

def dying(method):
    def call(*arguments):
        global calls
        calls += 1
        if calls > int(after):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments)
    return call

of, name = (ImageStore, "put") if kind == "part" else (LinkedImages, "link")
setattr(of, name, dying(getattr(of, name)))
carry_out(solutions_step(Path(release), Path(out), max_bad=1.0), 4, workers=1)
"""


@pytest.mark.parametrize(("kind", "after", "parts"), [("part", 14, 2), ("merge", 60, 4)])
def test_a_killed_build_resumes_at_the_first_missing_part_with_the_same_result(
    release: Path, whole: Path, tmp_path: Path, kind: str, after: int, parts: int
) -> None:
    out = tmp_path / "out"
    ended = subprocess.run([sys.executable, "-c", KILLED, release, out, str(after), kind], check=False, timeout=600)
    assert ended.returncode == -9
    assert not (out / "solutions.jsonl").exists()
    step = solutions_step(release, out, **LOOSE)
    made = {path.name: path.stat().st_mtime_ns for path in step.parts.glob("account-*.json")}
    assert len(made) == parts
    seen = []
    carry_out(step, 4, workers=1, on_progress=lambda done, total: seen.append(done))
    assert seen[0] == parts  # the finished ones are not read again
    left = [path for path in out.iterdir() if path.name.startswith(".parts") and path.is_dir()]
    assert left == []
    found = {name: data for name, data in content(out).items() if not name.startswith(".")}
    assert found == content(whole)
