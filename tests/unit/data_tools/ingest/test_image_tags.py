"""The `<image>` tags of released turns: those that mark the row's images are removed, those of the text are kept."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.base import without_image_tags


@pytest.mark.parametrize(
    ("text", "images", "wanted"),
    [
        ("Image 1: <image>\nImage 2: <image>\n\nTask: say.", 2, "Image 1:\nImage 2:\n\nTask: say."),
        ("<image>\nWhat is the HTML tag <image> for?", 1, "What is the HTML tag <image> for?"),
        ("What is the tag <image> for?\n<image>", 1, "What is the tag <image> for?"),
        ("<image>What of <image>?", 1, "What of <image>?"),
        ("<image><image>\nQ", 2, "Q"),
        ("<image>\n<image>\nQ", 2, "Q"),
        ("<image> <image> Q", 2, "Q"),
        ("Compare <image> with <image> now", 2, "Compare with now"),
        ("A <image>b", 1, "A b"),
        ("A<image>b", 1, "Ab"),
        ("A <image>\r\nB\r\n<image>\r\nC", 2, "A\r\nB\r\nC"),
        ("  <image>\t\n\n  Q\n\n", 1, "\n  Q\n\n"),
        ("A\n\n<image>\n\nB", 1, "A\n\n\nB"),
        ("Q <image>  \nmore", 1, "Q\nmore"),
        ("<image>", 1, ""),
        ("no tag", 1, "no tag"),
        ("<image 1> <Image> [image] <image_1>", 1, "<image 1> <Image> [image] <image_1>"),
        ("<im<image>age> x", 1, "<image> x"),
        ("What is `<image>` in HTML?", 1, "What is `<image>` in HTML?"),
        ("Is \"<image>\" or '<image>' right? <image>", 1, "Is \"<image>\" or '<image>' right?"),
        ("<image>'s colour", 1, "'s colour"),
        ("the tag <image>", 0, "the tag <image>"),
        ("code:\n\tif <image>:\n\t\tgo", 0, "code:\n\tif <image>:\n\t\tgo"),
    ],
)
def test_marks_are_removed_with_their_line_at_most_and_all_other_text_is_kept(text, images, wanted):
    assert without_image_tags(text, images)[0] == wanted


def test_tags_that_differ_from_the_images_are_noted_and_other_types_are_returned_unchanged():
    assert [without_image_tags("<image><image>", n)[1] for n in (1, 2, 3)] == [
        "image_tags_differ",
        "",
        "image_tags_differ",
    ]
    assert without_image_tags("none", 3) == ("none", "")
    assert without_image_tags(None, 1) == (None, "")
    assert without_image_tags(7, 1) == (7, "")


CRITIC = (
    "<image>\nGiven an image and a question, judge.\nQuestion: [What is the tag <image> for?\n]\nResponse 1: [The "
    "<image> tag]\nResponse 2: [none]\nASSISTANT:\n"
)


@pytest.mark.parametrize("source", ["mmif", "rlhf-v", "llava-critic"])
def test_every_release_with_marks_keeps_tags_of_the_text_and_counts_tags_that_differ(tmp_path, source):
    for name in "ab":
        Image.new("RGB", (64, 48), (200, 30, len(name))).save(tmp_path / f"{name}.png")
    questions = [
        ("Image 1: <image>\nImage 2: <image>\n\nTask: say.", ["a.png", "b.png"], "Image 1:\nImage 2:\n\nTask: say."),
        ("<image>\nWhat is the HTML tag <image> for?", ["a.png"], "What is the HTML tag <image> for?"),
        ("No mark at all?", ["a.png"], "No mark at all?"),
    ]
    rows = [
        {"id": str(at), "images": images, "conversations": [{"from": "human", "value": text}],
         "chosen": {"value": f"the <image> {at}"}, "rejected": {"value": "none"}}
        for at, (text, images, _) in enumerate(questions)
    ]  # fmt: skip
    wanted = [text for *_, text in questions]
    if source == "llava-critic":
        turns = [{"from": "human", "value": CRITIC}, {"from": "gpt", "value": "The better response: [1]"}]
        rows, wanted = (
            [{"id": "1", "source": "s", "image": "a.png", "conversations": turns}],
            ["What is the tag <image> for?"],
        )
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    report = ingest(source, file, tmp_path / "pairs", images_root=tmp_path)
    pairs = list(read_pairs(tmp_path / "pairs"))
    assert [pair.question for pair in pairs] == wanted
    assert all("<image>" in pair.response_1 + pair.response_2 for pair in pairs)
    assert report["notes"]["image_tags_differ"] == 1
