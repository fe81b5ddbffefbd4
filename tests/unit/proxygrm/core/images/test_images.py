"""The pixels of an image are decided once: `settle` on every unusual kind."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxygrm.core.images.settle import CHANGES, KINDS, UnreadableImage, examine, pixels, settle, size_of, too_thin
from support.images.gallery import HEIGHT, WIDTH, broken, colours, encoded, gallery, pixels_of

ROOT = Path(__file__).parents[5]
BROKEN = broken()


@pytest.mark.parametrize("name", gallery())
def test_a_settled_image_has_the_right_pixels_its_true_type_and_stays_as_it_is(name):
    odd = gallery()[name]
    settled = settle(odd.data)
    assert np.array_equal(pixels_of(settled.data), odd.pixels)
    assert np.array_equal(np.asarray(pixels(odd.data)), odd.pixels)
    with Image.open(io.BytesIO(settled.data)) as image:
        assert KINDS[image.format] == settled.kind
        assert (settled.look.width, settled.look.height) == image.size
        assert getattr(image, "n_frames", 1) == 1
    assert settled.media_type == f"image/{settled.kind}"
    assert settled.sha256 == hashlib.sha256(odd.data).hexdigest()
    assert (settled.data == odd.data) == (not settled.look.changed) == odd.kept
    assert settle(odd.data, decode=False) == settled
    again = settle(settled.data)
    assert again.data == settled.data
    assert again.look.changed == ()


def test_what_was_done_to_an_image_is_named():
    changed = {name: settle(odd.data).look.changed for name, odd in gallery().items()}
    assert changed["rgba.png"] == changed["clear.webp"] == ("on_white",)
    assert changed["grey16_one_clear.png"] == ("scaled_to_8_bits", "on_white")
    assert changed["moving.gif"] == changed["several.mpo"] == ("first_frame",)
    assert changed["cmyk.tiff"] == ("converted_to_rgb", "type_changed")
    assert changed["exif_6.jpg"] == changed["xmp_6.png"] == ("turned_upright",)
    assert {word for words in changed.values() for word in words} == set(CHANGES)


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_cannot_be_shown_is_always_refused_by_the_same_line(name):
    reasons = set()
    for _ in range(2):
        with pytest.raises(UnreadableImage) as refusal:
            settle(BROKEN[name])
        reasons.add(str(refusal.value))
    (why,) = reasons
    assert why
    assert "\n" not in why
    assert "0x" not in why


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, float("nan"), float("inf")], [0, 0, 255]),
        ([7.0, 7.0, 7.0], [7, 7, 7]),
    ],
)
def test_floating_point_is_scaled_by_its_usual_range_or_its_own(values, shown):
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert pixels_of(settle(data).data)[0, :, 0].tolist() == shown


def test_a_dark_image_of_16_bits_stays_dark():
    data = encoded(Image.fromarray(np.full((4, 4), 200, np.uint16)))
    assert pixels_of(settle(data).data).max() == 1


def test_a_re_encoded_image_carries_no_colour_profile_and_no_orientation_of_the_old_one():
    image = Image.fromarray(colours()).convert("CMYK")
    data = encoded(image, "JPEG", icc_profile=b"of other colours")
    with Image.open(io.BytesIO(settle(data).data)) as settled:
        assert "icc_profile" not in settled.info
    with Image.open(io.BytesIO(settle(gallery()["exif_6.png"].data).data)) as settled:
        assert not dict(settled.getexif())


def test_an_orientation_behind_the_pixels_of_a_png_counts_too():
    data = gallery()["exif_6.png"].data
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    late = data.replace(chunk, b"")
    end = late.index(b"IEND") - 4
    late = late[:end] + chunk + late[end:]
    for decode in (True, False):
        look = examine(late, decode)
        assert (look.width, look.height, look.changed) == (HEIGHT, WIDTH, ("turned_upright",))


def test_an_image_over_pillows_warning_is_read_without_one(tmp_path):
    (tmp_path / "large.png").write_bytes(encoded(Image.new("1", (9_600, 9_500))))
    read = "from proxygrm.core.images.settle import *; print(examine(image_of(Path('large.png'))))"
    words = [sys.executable, "-W", "error::RuntimeWarning", "-c", read]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert (done.stdout, done.stderr) == ("Look(kind='png', width=9600, height=9500, changed=())\n", "")


def test_size_is_read_from_the_header_and_a_file_without_one_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (3, 5)))[:60])
    assert size_of(tmp_path / "a.png") == (3, 5)
    (tmp_path / "b.png").write_text("no")
    for name in ("b.png", "gone.png", "."):
        with pytest.raises(UnreadableImage):
            size_of(tmp_path / name)


@pytest.mark.parametrize(("size", "thin"), [((1, 200), False), ((1, 201), True), ((600, 3), False), ((603, 3), True)])
def test_too_thin_is_above_200_to_1(size, thin):
    assert too_thin(*size) is thin
    assert examine(encoded(Image.new("L", size))).too_thin is thin
