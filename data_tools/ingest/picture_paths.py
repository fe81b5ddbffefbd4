"""Pictures of a row: bytes, or paths below one root (`proxygrm.core.images.paths`), into the picture store."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_tools.rows.preference import PictureStore, UnreadablePicture
from data_tools.sources.base import Frames, Left, Picture
from proxygrm.core.images.fields import NotGiven
from proxygrm.core.images.paths import MissingPicture, OutsideRoot, inside, resolve
from proxygrm.core.images.settle import Look, image_of
from proxygrm.core.images.store import Stored

Missing = Literal["refuse", "drop", "blank"]
MISSING = ("refuse", "drop", "blank")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_REMEMBERED = 50_000  # paths whose name in the store is kept in memory, about 300 bytes each


class Pictures:
    def __init__(self, store: PictureStore, root: Path, missing: Missing) -> None:
        self.store, self.root, self.missing = store, root.resolve(), missing
        self._known: dict[str, Stored] = {}

    def store_all(self, pictures: Sequence[Picture]) -> tuple[list[str], set[str]] | Left:
        """(names in the store, notes on the row: what was done to its images), or why the row cannot be used.

        Raises OSError when the store cannot be written: that is no fault of the row.
        """
        names, notes = list[str](), set[str]()
        for picture in pictures:
            try:
                for stored in self._stored(picture):
                    names.append(stored.name)
                    notes |= notes_on(stored.look)
            except MissingPicture as error:
                if self.missing != "blank":
                    return Left("missing_picture", str(error))
                names.append(self.store.add(blank_picture()))
                notes.add("blank_picture")
            except OutsideRoot as error:
                return Left("picture_outside_root", str(error))
            except UnreadablePicture as error:
                return Left("unreadable_picture", str(error))
        return names, notes

    def _stored(self, picture: Picture) -> list[Stored]:
        if isinstance(picture, NotGiven):
            raise MissingPicture(picture.why)
        if isinstance(picture, bytes):
            return [self.store.put(picture)]
        try:
            files = files_of(picture, self.root)
        except OSError as error:
            raise UnreadablePicture(str(error)) from error
        return [self._of_file(file) for file in files]

    def _of_file(self, file: str) -> Stored:
        stored = self._known.get(file)
        if stored is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            stored = self._known[file] = self.store.put(image_of(resolve(file, self.root)))
        return stored


def notes_on(look: Look) -> set[str]:
    """Words for the reports: what was done to an image, and that processors will refuse it."""
    return {f"image_{word}" for word in look.changed} | ({"stretched_picture"} if look.too_thin else set())


def missing_in(pictures: Sequence[Picture], root: Path) -> str | None:
    """The first path that is not there; None when all are (or point out of the root, which is another fault)."""
    for picture in pictures:
        if isinstance(picture, NotGiven):
            return picture.why
        if not isinstance(picture, bytes):
            try:
                for file in files_of(picture, root):
                    resolve(file, root)
            except MissingPicture as error:
                return str(error)
            except OutsideRoot:
                continue
    return None


def files_of(picture: str | Frames, root: Path) -> list[str]:
    """Paths of one picture, or of a video's frames at equal distances. Raises OutsideRoot, MissingPicture.

    A video is a folder of frames, or a file that has a folder of the same name beside it (`v.mp4` and `v/`); frames
    are put in order by the numbers in their names. Fewer frames than wanted are all taken.
    """
    if isinstance(picture, str):
        return [picture]
    for candidate in (picture.path, str(Path(picture.path).with_suffix("")) if picture.path.strip("./") else ""):
        folder = inside(candidate, root) if candidate else root
        if candidate and _is_folder(folder):
            frames = sorted(
                (file.name for file in folder.iterdir() if file.suffix.lower() in FRAME_SUFFIXES), key=_by_number
            )
            if frames:
                return [f"{candidate}/{frames[i]}" for i in uniform(len(frames), picture.wanted)]
    raise MissingPicture(f"{picture.path} has no folder of frames")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long for the file system
        return False


def uniform(total: int, wanted: int) -> list[int]:
    """`wanted` of `total` positions at equal distances, first and last included; all when there are no more."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [total // 2]
    return [round(i * (total - 1) / (wanted - 1)) for i in range(wanted)]


def blank_picture(side: int = 56) -> bytes:
    """A grey PNG that stands where a picture is missing."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (side, side), (128, 128, 128)).save(out, "PNG")
    return out.getvalue()


def _by_number(name: str) -> tuple[list[tuple[int, str]], str]:
    """frame_2 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)], name
