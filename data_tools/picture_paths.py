"""Pictures of a row: bytes as they are, or paths below one root, into the picture store.

A path that leaves the root (`..`, an absolute path elsewhere, a link that points out) is refused: a file of pairs
comes from other people, and must not copy a reader's own files into a data set.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_tools.preference import PictureStore, UnreadablePicture
from data_tools.source import Frames, Left, Picture

Missing = Literal["refuse", "drop", "blank"]
MISSING = ("refuse", "drop", "blank")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_REMEMBERED = 50_000  # paths whose name in the store is kept in memory, about 300 bytes each


class OutsideRoot(ValueError):
    """A path that points out of the pictures' root."""


class MissingPicture(ValueError):
    """No file at the path, or no frames in the folder of a video."""


class Pictures:
    def __init__(self, store: PictureStore, root: Path, missing: Missing) -> None:
        self.store, self.root, self.missing = store, root.resolve(), missing
        self._names: dict[str, str] = {}

    def store_all(self, pictures: Sequence[Picture]) -> tuple[list[str], int] | Left:
        """(names in the store, how many of them are blank stand-ins), or why the row cannot be used.

        Raises OSError when the store cannot be written: that is no fault of the row.
        """
        names, blanks = [], 0
        for picture in pictures:
            try:
                if isinstance(picture, bytes):
                    names.append(self.store.add(picture))
                else:
                    names += [self._stored(file) for file in self._files(picture)]
            except MissingPicture as error:
                if self.missing != "blank":
                    return Left("missing_picture", str(error))
                names.append(self.store.add(blank_picture()))
                blanks += 1
            except OutsideRoot as error:
                return Left("picture_outside_root", str(error))
            except UnreadablePicture as error:
                return Left("unreadable_picture", str(error))
        return names, blanks

    def _files(self, picture: str | Frames) -> list[str]:
        try:
            return files_of(picture, self.root)
        except OSError as error:
            raise UnreadablePicture(str(error)) from error

    def _stored(self, file: str) -> str:
        name = self._names.get(file)
        if name is None:
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            try:
                data = resolve(file, self.root).read_bytes()
            except OSError as error:
                raise UnreadablePicture(str(error)) from error
            name = self._names[file] = self.store.add(data)
        return name


def missing_in(pictures: Sequence[Picture], root: Path) -> str | None:
    """The first path that is not there; None when all are (or point out of the root, which is another fault)."""
    for picture in pictures:
        if not isinstance(picture, bytes):
            try:
                for file in files_of(picture, root):
                    resolve(file, root)
            except MissingPicture as error:
                return str(error)
            except OutsideRoot:
                continue
    return None


def resolve(name: str, root: Path) -> Path:
    """The file, links followed, which lies below `root` (itself resolved). Raises OutsideRoot, MissingPicture."""
    path = _inside(name, root)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name the file system cannot hold
        pass
    raise MissingPicture(name)


def files_of(picture: str | Frames, root: Path) -> list[str]:
    """Paths of one picture, or of a video's frames at equal distances. Raises OutsideRoot, MissingPicture.

    A video is a folder of frames, or a file that has a folder of the same name beside it (`v.mp4` and `v/`); frames
    are put in order by the numbers in their names. Fewer frames than wanted are all taken.
    """
    if isinstance(picture, str):
        return [picture]
    for candidate in (picture.path, str(Path(picture.path).with_suffix("")) if picture.path.strip("./") else ""):
        folder = _inside(candidate, root) if candidate else root
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


def _inside(name: str, root: Path) -> Path:
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, a lone surrogate, a circle of links
        raise MissingPicture(ascii(name)) from error
    if not path.is_relative_to(root):
        raise OutsideRoot(name)
    return path


def _by_number(name: str) -> tuple[list[tuple[int, str]], str]:
    """frame_2 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)], name
