"""Layouts of a VisualPRM release: which file is of which subset, where its images are, and what is not unpacked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_tools.solutions.release import Annotation, annotations_of
from support.refusals import refused
from support.rows.release_files import jsonl
from support.rows.visualprm_files import conversation, scored, v11, write_shades

ROW = conversation(["a"], ["+"])
ENTRY = '{"%s": {"root": "images/UniGeo", "annotation": "annotations/unigeo_prm.jsonl", "length": %s}}'


def found(release: Path, *only: str, images_root: Path | None = None) -> dict[str, tuple[str, str | None]]:
    """subset -> (its file, its folder of images), both relative to the release."""
    base = next(folder for folder in (release, *release.parents) if (folder / "annotations").is_dir())
    return {
        each.subset: (each.name, each.images and each.images.relative_to(base).as_posix())
        for each in annotations_of(release, only, images_root)
    }


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """v1.1 with two subsets that share the name of an image."""
    return v11(tmp_path / "r", {"UniGeo": [ROW], "Geo170K": [ROW]}, {"UniGeo": {"0.png": 1}, "Geo170K": {"0.png": 2}})


def v10(folder: Path, *files: str, images: tuple[str, ...] = ("GeomVerse", "ai2d"), row: object = ROW) -> Path:
    for name in files:
        jsonl(folder / "annotations" / name, [row])
    for name in images:
        write_shades(folder / "images" / name, {"0.png": 1})
    return folder


def test_meta_json_names_the_subsets_their_files_and_their_folders(release: Path) -> None:
    assert found(release) == {
        "UniGeo": ("annotations/unigeo_prm.jsonl", "images/UniGeo"),
        "Geo170K": ("annotations/geo170k_prm.jsonl", "images/Geo170K"),
    }
    assert [each.length for each in annotations_of(release)] == [1, 1]
    assert list(found(release, "UniGeo")) == ["UniGeo"]
    assert found(release / "annotations") == found(release)
    assert list(found(release / "annotations" / "unigeo_prm.jsonl")) == ["UniGeo"]


def test_files_without_meta_json_belong_to_the_image_folder_that_their_name_begins_with(tmp_path: Path) -> None:
    names = ("geomverse_extracted_prm_process.jsonl", "ai2d_train_12k_en_20240410_extracted.jsonl")
    assert found(v10(tmp_path, *names)) == {
        "GeomVerse": (f"annotations/{names[0]}", "images/GeomVerse"),
        "ai2d": (f"annotations/{names[1]}", "images/ai2d"),
    }
    (tmp_path / "images" / "Geom").mkdir()  # a shorter name that fits as well
    assert found(tmp_path, "GeomVerse")["GeomVerse"][1] == "images/GeomVerse"


def test_several_files_of_a_subset_are_one_subset(tmp_path: Path) -> None:
    v10(tmp_path, "geomverse_extracted_prm_process.jsonl", "geomverse_orm.jsonl")
    both = annotations_of(tmp_path)
    assert [(each.subset, each.of_outcomes) for each in both] == [("GeomVerse", False), ("GeomVerse", True)]


def test_raw_rows_name_the_folder_of_their_images_after_the_name_of_the_release(tmp_path: Path) -> None:
    row = scored([("a", 1, 1)], image="VisualPRM400K-v1.1-Raw/Geometry3K/train/1/img.png")
    v10(tmp_path, "geometry_problems_prompts.jsonl", images=("Geometry3K",), row=row)
    (each,) = annotations_of(tmp_path)
    assert (each.subset, each.images) == ("geometry_problems", None)
    assert each.place(row["image"]) == (tmp_path / "images", "Geometry3K/train/1/img.png")
    with pytest.raises(LookupError):
        each.place("train/1/img.png")
    beside = v10(tmp_path / "beside", "ai2d_x.jsonl", images=(), row=row)
    write_shades(beside / "VisualPRM400K-v1.1-Raw" / "Geometry3K", {"0.png": 1})  # the other way to unpack
    (each,) = annotations_of(beside)
    assert each.place(row["image"])[0] == beside / "VisualPRM400K-v1.1-Raw"


def test_a_folder_for_all_images_may_be_elsewhere(release: Path, tmp_path: Path) -> None:
    (release / "images").rename(tmp_path / "pictures")
    assert [each.images for each in annotations_of(release, images_root=tmp_path / "pictures")] == [
        tmp_path / "pictures" / "Geo170K", tmp_path / "pictures" / "UniGeo",
    ]  # fmt: skip
    with refused("file.not-a-folder", option="--images-root"):
        annotations_of(release, images_root=tmp_path / "none")


def test_an_unknown_subset_is_refused_with_the_known_ones(release: Path, tmp_path: Path) -> None:
    with refused("data.unknown-subset", subset="Unigeo", known=["Geo170K", "UniGeo"]):
        annotations_of(release, ["UniGeo", "Unigeo"])
    with refused("data.unknown-subset", subset="x", known=["ai2d"]):
        annotations_of(v10(tmp_path / "v10", "ai2d.jsonl"), ["x"])


def test_a_subset_without_annotations_is_refused_unless_others_are_chosen(release: Path) -> None:
    (release / "annotations" / "unigeo_prm.jsonl").unlink()
    with refused("data.subset-without-annotations"):
        annotations_of(release)
    assert list(found(release, "Geo170K")) == ["Geo170K"]
    (release / "annotations.zip").touch()
    with refused("data.packed", archives=["annotations.zip"]):
        annotations_of(release)


@pytest.mark.parametrize("root", ["VisualPRM400K-v1.1/images/Gone", "../images/UniGeo", "/etc", "images/UniGeo/0.png"])
def test_a_folder_that_meta_json_names_but_is_not_in_the_release_is_refused(tmp_path: Path, root: str) -> None:
    release = v11(
        tmp_path / "r", {"A": [ROW], "B": [ROW]}, {"UniGeo": {"0.png": 1}, "B": {"0.png": 1}}, A={"root": root}
    )
    with refused("data.subset-without-images", subsets=[f"A: {root}"]):
        annotations_of(release)
    assert list(found(release, "B")) == ["B"]


def test_the_folder_of_another_subset_is_never_taken_instead(tmp_path: Path) -> None:
    release = v11(tmp_path / "r", {"A": [ROW]}, {"": {"0.png": 1}}, A={"root": "sets/A/images"})
    with refused("data.subset-without-images"):  # though there is a folder `images`
        annotations_of(release)


def test_parts_of_archives_that_are_not_unpacked_are_named(release: Path, tmp_path: Path) -> None:
    for name in ("images.zip_aa", "images.zip_ab"):
        (release / name).touch()
    annotations_of(release)  # both may lie side by side
    (release / "images" / "UniGeo" / "0.png").unlink()
    (release / "images" / "UniGeo").rmdir()
    with refused("data.packed", archives=["images.zip_aa", "images.zip_ab"]):
        annotations_of(release)
    packed = tmp_path / "packed"
    packed.mkdir()
    for name in ("annotations.zip", "images.zip_aa"):
        (packed / name).touch()
    with refused("data.packed", archives=["annotations.zip"]):
        annotations_of(packed)


def test_files_that_belong_to_no_folder_of_images_are_refused(tmp_path: Path) -> None:
    v10(tmp_path, "ai2d.jsonl", "chartqa_train.jsonl")
    with refused("data.subset-without-images", subsets=["chartqa_train: annotations/chartqa_train.jsonl"]):
        annotations_of(tmp_path)
    (tmp_path / "images.zip_aa").touch()
    with refused("data.packed"):
        annotations_of(tmp_path)


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        ("{", "file.damaged"), ("[]", "data.bad-meta"), ("{}", "data.bad-meta"), ('{"A": 1}', "data.bad-meta"),
        ('{"A": {"root": "x"}}', "data.bad-meta"), ('{"A": {"root": 1, "annotation": "x"}}', "data.bad-meta"),
        ("[" * 100_000, "file.damaged"),
        (ENTRY % ("", "1"), "data.bad-meta"), (ENTRY % (r"\ud800", "1"), "data.bad-meta"),
        (ENTRY % ("A", '"1"'), "data.bad-meta"), (ENTRY % ("A", "-1"), "data.bad-meta"),
        (ENTRY % ("A", "true"), "data.bad-meta"), (ENTRY % ("A", '1, "root": "images/UniGeo"'), "data.bad-meta"),
        (ENTRY % ("A", '1}, "A": {"root": "images/UniGeo", "annotation": "unigeo_prm.jsonl"'), "data.bad-meta"),
    ],
)  # fmt: skip
def test_a_meta_json_of_another_shape_is_refused(release: Path, meta: str, code: str) -> None:
    (release / "meta.json").write_text(meta, encoding="utf-8")
    with refused(code):
        annotations_of(release)


@pytest.mark.parametrize("image", ["VisualPRM400K-v1.1-Raw", "", [], None, "nested"])
def test_a_first_row_that_names_no_folder_of_images_is_refused_by_its_subset(tmp_path: Path, image: object) -> None:
    line = "[" * 100_000 if image == "nested" else json.dumps({**ROW, "image": image})
    file = v10(tmp_path, images=()) / "annotations" / "ai2d_x.jsonl"
    file.parent.mkdir()
    file.write_text(line + "\n", encoding="utf-8")
    with refused("data.subset-without-images"):
        annotations_of(tmp_path)


def test_a_file_that_meta_json_does_not_list_is_refused(release: Path) -> None:
    other = jsonl(release / "annotations" / "other.jsonl", [ROW])
    with refused("data.unlisted-annotations", path=other):
        annotations_of(other)


def test_a_release_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with refused("file.missing"):
        annotations_of(tmp_path / "none")
    with refused("data.no-files"):
        annotations_of(tmp_path)


def test_an_annotation_file_linked_from_a_cache_keeps_its_name(tmp_path: Path) -> None:
    blob = jsonl(tmp_path / "blobs" / "0f3a", [ROW])
    (tmp_path / "r" / "annotations").mkdir(parents=True)
    (tmp_path / "r" / "annotations" / "ai2d_orm.jsonl").symlink_to(blob)
    write_shades(tmp_path / "r" / "images" / "ai2d", {"0.png": 1})
    (each,) = annotations_of(tmp_path / "r")
    assert (each.name, each.subset, each.of_outcomes) == ("annotations/ai2d_orm.jsonl", "ai2d", True)


def test_a_path_with_backslashes_is_one_below_the_folder() -> None:
    each = Annotation(Path("a.jsonl"), "a.jsonl", "A", Path("/i/A"), Path("/i"))
    assert each.place("train\\1.png") == (Path("/i/A"), "train/1.png")
    assert json.dumps(each.place("../B/1.png")[1]) == '"../B/1.png"'  # refused by the reader of images
