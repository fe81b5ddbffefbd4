"""The demo's solutions in steps: the released layouts, and what their readers make of them."""

from __future__ import annotations

import json
from collections import Counter

from data_tools.sources.demo_solutions import SUBSETS, write_demo_solutions
from proxygrm.demo.process_service import describe
from proxygrm.evaluate.process.questions import read_questions
from proxygrm.evaluate.steps.release import read_release


def test_both_subsets_call_other_images_by_the_same_names(tmp_path):
    write_demo_solutions(tmp_path, images=24, solutions=4, questions=4, seed=0)
    release = tmp_path / "release"
    meta = json.loads((release / "meta.json").read_text())
    assert tuple(meta) == SUBSETS
    folders = [release / entry["root"] for entry in meta.values()]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    assert all((folders[0] / name).read_bytes() != (folders[1] / name).read_bytes() for name in names[0])
    for entry in meta.values():
        rows = [json.loads(line) for line in (release / entry["annotation"]).read_text().splitlines()]
        assert len(rows) == entry["length"] == 36
        labels = Counter(tuple(t["value"] for t in row["conversations"] if t["from"] == "gpt") for row in rows)
        assert labels == {("+", "+"): 12, ("-", "-"): 12, ("+", "-"): 12}


def test_what_is_held_out_is_a_release_of_its_own_images(tmp_path):
    write_demo_solutions(tmp_path, images=40, solutions=4, questions=4, seed=0)
    release, held_out = (
        {path.read_bytes() for path in (tmp_path / name).glob("images/*/*.png")} for name in ("release", "held_out")
    )
    assert (len(release), len(held_out)) == (40, 4)
    assert not release & held_out
    assert tuple(json.loads((tmp_path / "held_out" / "meta.json").read_text())) == SUBSETS


def test_the_questions_answer_is_what_the_image_shows_and_what_is_added(tmp_path):
    write_demo_solutions(tmp_path, images=2, solutions=4, questions=24, seed=0)
    folder = tmp_path / "questions"
    file = read_questions(folder / "questions.jsonl", folder)
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    assert len(file.questions) == len({row["id"] for row in rows}) == 24
    for row, question in zip(rows, file.questions, strict=True):
        description = describe([question.images[0].read_bytes()], question.text)
        number, more = int(description.split("is ")[1][0]), int(question.text.split("when ")[1][0])
        assert row["answer"] == str(number + more)


def test_the_benchmarks_rows_are_read_and_have_steps_of_both_labels(tmp_path):
    write_demo_solutions(tmp_path, images=2, solutions=60, questions=4, seed=0)
    solutions = read_release(tmp_path / "visualprocessbench")
    assert len(solutions) == 60
    assert all(path.is_file() for each in solutions for path in each.question.images)
    labels = Counter(each.labels for each in solutions)
    assert min(labels[1, 1], labels[-1, 1], labels[1, -1]) >= 6


def test_another_seed_draws_other_images_and_the_same_seed_the_same(tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_demo_solutions(tmp_path / name, images=4, solutions=4, questions=4, seed=seed)
    image = "release/images/drawn_first/0.png"
    one, same, other = ((tmp_path / name / image).read_bytes() for name in ("one", "same", "other"))
    assert one == same != other
