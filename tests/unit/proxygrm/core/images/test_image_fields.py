"""A row that names an image has it, or is counted: how the fields of other people's files are read."""

from __future__ import annotations

import base64
import math

import pytest

from proxygrm.core.images.fields import NoImage, NotGiven, images_in, images_of, marked

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(60)
JPEG_HEAD = b"\xff\xd8\xff" + bytes(60)


def given(images):
    return [None if isinstance(image, NotGiven) else image for image in images]


@pytest.mark.parametrize(
    ("value", "images"),
    [
        (None, []), (math.nan, []), ("", []), ([], []), ((), []),
        ("a.png", ["a.png"]), (b"x", [b"x"]), (b"", [None]),
        ({"bytes": b"x", "path": "a.png"}, [b"x"]), ({"bytes": None, "path": "a.png"}, ["a.png"]),
        ({"bytes": b"", "path": "a.png"}, ["a.png"]), ({"bytes": math.nan, "path": "a.png"}, ["a.png"]),
        ({"bytes": None, "path": None}, [None]), ({"bytes": b"", "path": ""}, [None]), ({"path": None}, [None]),
        ([None, "b.png"], [None, "b.png"]), (["", "a.png"], [None, "a.png"]), ([math.nan], [None]),
        ([{"bytes": None, "path": None}, b"x"], [None, b"x"]), (["a.png", "a.png"], ["a.png", "a.png"]),
        ([["a.png"], []], ["a.png", None]), ([b""], [None]),
    ],
)  # fmt: skip
def test_a_named_image_keeps_its_place_even_without_bytes_or_path(value, images):
    assert given(images_in(value)) == images


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("file:///data/a%20b.png", "/data/a b.png"), ("FILE://localhost/a.png", "/a.png"), ("file:a.png", "a.png"),
        ("file://d/a#1?.png", "d/a#1?.png"),
        ("data:image/png;base64,eHk=", b"xy"), ("DATA:;Base64,eH\nk=", b"xy"), ("data:image/png;base64,eHk%3D", b"xy"),
        (base64.b64encode(PNG).decode(), PNG), (base64.b64encode(b"\xff\xd8\xff" + bytes(60)).decode(), JPEG_HEAD),
        ("/9j/photos/a", "/9j/photos/a"), ("iVBORw0KGgo" + "a" * 60 + ".png", "iVBORw0KGgo" + "a" * 60 + ".png"),
        ("data:;base64,", None), ("file://", None), ("C:\\a.png", "C:\\a.png"), ("a:b.png", "a:b.png"),
        ("p%20q.png", "p%20q.png"), ("data/a.png", "data/a.png"),
    ],
)  # fmt: skip
def test_a_url_is_a_path_or_bytes_and_a_name_is_kept(text, image):
    assert given(images_in(text)) == given(images_in({"path": text})) == [image]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://a/b.png", "not fetched"), ("HTTPS://a/b.png", "not fetched"), ("s3://a/b.png", "not fetched"),
        ("data:image/png,raw", "must be base64"), ("data:image/png;base64,***", "not base64"),
        ("data:;base64,é", "not base64"),
    ],
)  # fmt: skip
def test_a_url_without_an_image_is_refused_with_the_reason(text, said):
    with pytest.raises(NoImage, match=said):
        images_in([text])


@pytest.mark.parametrize("value", [7, True, {"url": "x"}, {}, [7], {"bytes": 7}, {"path": b"x"}, [{"path": 1.5}]])
def test_what_names_no_image_in_a_known_way_is_refused(value):
    with pytest.raises(NoImage):
        images_in(value)


@pytest.mark.parametrize(
    ("row", "images"),
    [
        ({}, []),
        ({"image": "a.png", "images": []}, ["a.png"]),
        ({"image": "a.png", "images": None}, ["a.png"]),
        ({"image": None, "images": ["a.png", "b.png"]}, ["a.png", "b.png"]),
        ({"image": "./a.png", "images": ["a.png"]}, ["a.png"]),
        ({"image": "b.png", "images": ["a.png", "b.png"]}, ["a.png", "b.png"]),
        ({"image": "a.png", "images": ["a.png", None]}, ["a.png", None]),
        ({"image": {"bytes": b"x", "path": "y"}, "images": [b"x"]}, [b"x"]),
    ],
)
def test_either_field_counts_and_the_same_image_in_both_is_one(row, images):
    assert given(images_of(row)) == images


def test_fields_that_name_different_images_are_not_guessed_at():
    with pytest.raises(NoImage, match=r"`image` \(a.png\) is not among `images`"):
        images_of({"image": "a.png", "images": ["b.png"]})


@pytest.mark.parametrize(
    ("turn", "images"),
    [
        ("<image>\nWhat?", ["a"]), ("What?", ["a"]), ("What is <image><image>?", ["a"]), (None, ["a"]),
        ("<image><image>What?", ["a", None]), (" <image>\n <image>\n<image> What?", ["a", None, None]),
    ],
)  # fmt: skip
def test_a_turn_that_begins_with_more_markers_than_images_lacks_some(turn, images):
    assert given(marked(turn, ("a",))) == images
