"""The files of a VisualPRM release: which annotations are of which subset, and in which folder its images are.

| release | subsets | images of a subset |
|---|---|---|
| v1.1 | the names in meta.json, {name: {root, annotation, length, ...}} | `root` |
| v1.0, v1.1-Raw | image folders with whose name the name of an annotation file begins | that folder |

Archives may lack the first folder of a path when that is the release's own name ("VisualPRM400K-v1.1/..."), and may add
a folder `images`. Nothing else is guessed: an image that is not in the folder of its subset is missing, even where
another subset has one of that name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_tools.ingest.raw_rows import ARCHIVE, list_files, not_unpacked
from proxygrm.core.errors import UserError
from proxygrm.core.unicode_text import is_unicode

EXPECTED = "the unpacked folder of VisualPRM400K, -v1.1 or -v1.1-Raw (annotations, images, perhaps meta.json)"
META = "meta.json"
_RELEASE = "visualprm400k"
_FORM = re.compile(r"(_extracted|_prompts|_prm|_orm|_process|_pairs|_vqa|_correctness_rules|_format_rules)+$")
OF_OUTCOMES = re.compile(r"_orm$")


@dataclass(frozen=True)
class Annotation:
    """An annotation file of one subset."""

    path: Path
    name: str
    """Relative to the release."""
    subset: str
    images: Path | None
    """Folder that image paths of its rows are relative to; None: the rows name it, after the release's name."""
    all_images: Path
    """Folder of all subsets' images, for paths that begin with the release's name."""
    length: int | None = None
    """Number of its rows by meta.json."""

    @property
    def of_outcomes(self) -> bool:
        return OF_OUTCOMES.search(self.path.stem) is not None

    def place(self, image: str) -> tuple[Path, str]:
        """(the folder that it must be in, the path below it) of an image of a row. Raises LookupError."""
        parts = PurePosixPath(image.replace("\\", "/")).parts
        if parts and parts[0].lower().startswith(_RELEASE):
            return self.all_images, str(PurePosixPath(*parts[1:]))
        if self.images is None:
            raise LookupError(f"{self.name} belongs to no folder of images")
        return self.images, str(PurePosixPath(*parts))


def annotations_of(
    release: Path, only: Sequence[str] = (), images_root: Path | None = None, exclude: Path | None = None
) -> list[Annotation]:
    """The annotation files of a release, in order of their names; only: of these subsets.

    images_root: folder of all images, instead of those in the release. exclude: a folder to skip (the output may be
    inside the release). UserError: the release is not unpacked, a subset
    has no annotations or no folder of images, or is unknown.
    """
    base = _base(Path(release))
    places = [Path(images_root)] if images_root else _image_places(base)
    if absent := [place for place in places if not place.is_dir()]:
        raise UserError(
            f"--images-root {absent[0]} is not a folder", code="file.not-a-folder", path=absent[0],
            option="--images-root",
        )  # fmt: skip
    file = base / META
    alone = Path(release) if Path(release).is_file() else None
    if file.is_file():
        return _of_meta(file, _chosen_entries(file, alone, only), base, places)
    return _of_files(base, places, alone, only, exclude)


def _check_known(only: Sequence[str], known: Collection[str], base: Path) -> None:
    if unknown := [name for name in only if name not in known]:
        raise UserError(
            f"{base} has no subset {unknown[0]!r}; its subsets are: {', '.join(sorted(known))}",
            code="data.unknown-subset", subset=unknown[0], known=sorted(known),
        )  # fmt: skip


def _base(release: Path) -> Path:
    """The folder of the release, from itself, its `annotations` or one of these files."""
    if not release.exists():
        raise UserError(f"{release} does not exist; give {EXPECTED}", code="file.missing", path=release)
    folder = release.resolve() if release.is_dir() else release.absolute().parent.resolve()
    return folder.parent if folder.name == "annotations" else folder


def _image_places(base: Path) -> list[Path]:
    """Folders that may hold those of the subsets."""
    named = sorted(path for path in base.iterdir() if path.is_dir() and path.name.lower().startswith(_RELEASE))
    return [base, *(place for place in (base / "images", *named) if place.is_dir())]


# --- with meta.json


def _of_meta(file: Path, entries: dict[str, dict[str, Any]], base: Path, places: list[Path]) -> list[Annotation]:
    annotations, unlabelled, without_images = list[Annotation](), list[str](), list[str]()
    for name, entry in sorted(entries.items()):
        annotation = _below(_parts(entry["annotation"]), (base, base / "annotations"))
        images = _image_folder(entry["root"], places)
        if annotation is None or not annotation.is_file():
            unlabelled.append(f"{name}: {entry['annotation']}")
        elif images is None or not images.is_dir():
            without_images.append(f"{name}: {entry['root']}")
        else:
            relative = annotation.relative_to(base).as_posix()
            annotations.append(Annotation(annotation, relative, name, images, places[-1], entry.get("length")))
    if unlabelled:
        if archives := _archives(base, "annotation"):
            raise not_unpacked(
                f"{base} has no annotations of {unlabelled[0]}, but {archives[0]}", base, archives, EXPECTED
            )
        raise UserError(
            f"{file}: {len(unlabelled)} subsets have no annotations in {base} (first: {unlabelled[0]}); download them, "
            "or choose others with --subset NAME",
            code="data.subset-without-annotations", path=file, subsets=unlabelled,
        )  # fmt: skip
    _refuse_without_images(without_images, base, places)
    return annotations


def _chosen_entries(file: Path, alone: Path | None, only: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The entries of these subsets; alone: of this annotation file."""
    entries = _entries(file)
    if alone is not None:
        entries = {name: each for name, each in entries.items() if PurePosixPath(each["annotation"]).name == alone.name}
        if not entries:
            raise UserError(
                f"{file} does not list {alone.name}; give the folder of the release, or add the file there",
                code="data.unlisted-annotations", path=alone, meta=file,
            )  # fmt: skip
    _check_known(only, entries, file.parent)
    return {name: each for name, each in entries.items() if not only or name in only}


def _entries(file: Path) -> dict[str, dict[str, Any]]:
    repeated = list[str]()

    def entries_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return dict(pairs)

    try:
        meta = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=entries_of)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); download it again", code="file.damaged", path=file
        ) from error
    entries = meta.items() if isinstance(meta, dict) else ()
    faults = {name: fault for name, entry in entries if (fault := _fault(name, entry))}
    faults |= dict.fromkeys(repeated, "stands there twice")
    bad = list(faults)
    if bad or not entries:
        what = f"{bad[0]!r} {faults[bad[0]]}" if bad else "it names no subset"
        raise UserError(
            f"{file}: {what}; it must be {{NAME: {{root, annotation, length}}}}", code="data.bad-meta", path=file,
            subsets=bad,
        )  # fmt: skip
    return dict(entries)


def _fault(name: str, entry: Any) -> str:
    """What is wrong with an entry of meta.json; "" if nothing is."""
    if not name.strip() or not is_unicode(name):
        return "is not a name"
    if not (isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("root", "annotation"))):
        return "lacks root or annotation"
    length = entry.get("length")
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 0):
        return f"has {length!r:.40} for a length"
    return ""


def _image_folder(root: str, places: Sequence[Path]) -> Path | None:
    """The folder of a subset; that of all images may be one of the places itself."""
    parts = _parts(root)
    return _below(parts, places) or (_below(parts[1:], places) if parts[:1] == ("images",) else None)


def _parts(named: str) -> tuple[str, ...]:
    """Of a path, without the release's name."""
    parts = PurePosixPath(named.replace("\\", "/")).parts
    return parts[1:] if parts and parts[0].lower().startswith(_RELEASE) else parts


def _below(parts: tuple[str, ...], places: Sequence[Path]) -> Path | None:
    """The path below the first of the places that has it; None if none has."""
    if ".." in parts or parts[:1] == ("/",):
        return None
    return next((path for place in places if (path := place.joinpath(*parts)).exists()), None)


# --- without


def _of_files(
    base: Path, places: list[Path], alone: Path | None, only: Sequence[str], exclude: Path | None
) -> list[Annotation]:
    folder = base / "annotations"
    if not folder.is_dir() and (archives := _archives(base, "annotation")):
        raise not_unpacked(f"{base} has no annotations, but {archives[0]}", base, archives, EXPECTED)
    files = [file for file, _ in list_files(alone or (folder if folder.is_dir() else base), EXPECTED, exclude)]
    folders = [path for place in places for path in sorted(place.iterdir()) if path.is_dir() and path != folder]
    annotations = []
    for file in files:
        images = _of_name(file.stem, folders)
        subset = images.name if images else _FORM.sub("", file.stem)
        name = file.absolute().parent.resolve().relative_to(base) / file.name
        annotations.append(Annotation(base / name, name.as_posix(), subset, images, places[-1]))
    _check_known(only, {each.subset for each in annotations}, base)
    annotations = [each for each in annotations if not only or each.subset in only]
    named = [(each, each.images or _named_by_rows(each)) for each in annotations]
    without = [
        f"{each.subset}: {folder or each.name}" for each, folder in named if folder is None or not folder.is_dir()
    ]
    _refuse_without_images(without, base, places)
    return annotations


def _of_name(stem: str, folders: Sequence[Path]) -> Path | None:
    """The folder whose name the file's begins with; the longest such name, the first such folder."""
    fitting = [folder for folder in folders if _plain(folder.name) and _plain(stem).startswith(_plain(folder.name))]
    return max(fitting, key=lambda folder: len(_plain(folder.name)), default=None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# --- both


def _refuse_without_images(without: Sequence[str], base: Path, places: Sequence[Path]) -> None:
    """UserError if there is a subset in the list."""
    if not without:
        return
    if archives := _archives(base, "image"):
        raise not_unpacked(f"{base} has no images of {without[0]}, but {archives[0]}", base, archives, EXPECTED)
    raise UserError(
        f"{base}: {len(without)} subsets have no folder of images below {places[-1]} (first: {without[0]}); unpack "
        f"them, name each folder in {META}, or choose other subsets with --subset NAME",
        code="data.subset-without-images", path=base, subsets=without,
    )  # fmt: skip


def _named_by_rows(annotation: Annotation) -> Path | None:
    """The folder that the first row's image is in, where its path begins with the release's name; else None."""
    with annotation.path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        image = json.loads(line)["image"]
        folder, name = annotation.place(image if isinstance(image, str) else image[0])
        return folder / PurePosixPath(name).parts[0]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _archives(base: Path, word: str) -> list[str]:
    """Names of archives in the release that hold this."""
    names = sorted(path.name for path in base.iterdir() if path.is_file() and ARCHIVE.search(path.name))
    return [name for name in names if word in name.lower()] or names
