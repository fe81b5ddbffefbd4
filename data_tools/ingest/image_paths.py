"""Stores the images of a row, given as bytes or as paths below one root (`proxygrm.core.images.paths`)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from data_tools.rows.preference import ImageStore, UnreadableImage
from data_tools.sources.base import Excluded, Frames, ImageRef
from proxygrm.core.errors import UserError
from proxygrm.core.images.fields import NotGiven
from proxygrm.core.images.paths import MissingImage, OutsideRoot, inside, resolve
from proxygrm.core.images.settle import Look, image_of
from proxygrm.core.images.store import Stored

OnMissing = Literal["refuse", "drop", "blank"]
ON_MISSING = get_args(OnMissing)
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_REMEMBERED = 50_000  # paths whose name in the store is kept in memory, about 300 bytes each


def check_on_missing(on_missing: str) -> None:
    """Raises UserError for an unknown way to treat missing images."""
    if on_missing not in ON_MISSING:
        raise UserError(
            f"missing_images is {on_missing!r}; it must be one of: {', '.join(ON_MISSING)}",
            code="option.bad-value", option="missing_images", value=on_missing, known=list(ON_MISSING),
        )  # fmt: skip


def resolve_images_root(images_root: Path | None, default: Path) -> Path:
    """The folder that image paths are relative to. Raises UserError if it is not a folder."""
    root = Path(images_root) if images_root else default
    if not root.is_dir():
        raise UserError(
            f"--images-root {root} is not a folder", code="file.not-a-folder", path=root, option="--images-root"
        )
    return root.resolve()


class ImageReader:
    def __init__(self, store: ImageStore, root: Path, missing: OnMissing) -> None:
        self.store, self.root, self.missing = store, root.resolve(), missing
        self._known: dict[str, Stored] = {}
        self._last: tuple[bytes, Stored] | None = None  # the pairs of one row share its image

    def store_all(self, images: Sequence[ImageRef]) -> tuple[list[str], set[str]] | Excluded:
        """(names in the store, notes on how the images were changed), or why the row cannot be used.

        Raises OSError if the store cannot be written, which is not a fault of the row.
        """
        names, notes = list[str](), set[str]()
        for image in images:
            try:
                for stored in self._stored(image):
                    names.append(stored.name)
                    notes |= notes_on(stored.look)
            except MissingImage as error:
                if self.missing != "blank":
                    return Excluded("missing_image", str(error))
                names.append(self.store.add(blank_image()))
                notes.add("blank_image")
            except OutsideRoot as error:
                return Excluded("image_outside_root", str(error))
            except UnreadableImage as error:
                return Excluded("unreadable_image", str(error))
        return names, notes

    def _stored(self, image: ImageRef) -> list[Stored]:
        if isinstance(image, NotGiven):
            raise MissingImage(image.why)
        if isinstance(image, bytes):
            if self._last is None or self._last[0] is not image:
                self._last = image, self.store.put(image)
            return [self._last[1]]
        try:
            files = files_of(image, self.root)
        except OSError as error:
            raise UnreadableImage(str(error)) from error
        return [self._of_file(file) for file in files]

    def _of_file(self, file: str) -> Stored:
        stored = self._known.get(file)
        if stored is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            stored = self._known[file] = self.store.put(image_of(resolve(file, self.root)))
        return stored


def notes_on(look: Look) -> set[str]:
    """Words for the reports: how an image was changed, and whether processors will refuse it."""
    return {f"image_{word}" for word in look.changed} | ({"stretched_image"} if look.too_thin else set())


def missing_in(images: Sequence[ImageRef], root: Path) -> str | None:
    """The first missing path; None if there is none. Paths outside the root are another fault and do not count."""
    for image in images:
        if isinstance(image, NotGiven):
            return image.why
        if not isinstance(image, bytes):
            try:
                for file in files_of(image, root):
                    resolve(file, root)
            except MissingImage as error:
                return str(error)
            except OutsideRoot:
                continue
    return None


def files_of(image: str | Frames, root: Path) -> list[str]:
    """Paths of one image, or of equally spaced frames of a video. Raises OutsideRoot, MissingImage.

    A video is a folder of frames, or a file with a folder of the same name beside it (`v.mp4` and `v/`); frames are
    sorted by the numbers in their names. If there are fewer frames than wanted, all are taken.
    """
    if isinstance(image, str):
        return [image]
    for candidate in (image.path, str(Path(image.path).with_suffix("")) if image.path.strip("./") else ""):
        folder = inside(candidate, root) if candidate else root
        if candidate and _is_folder(folder):
            frames = sorted(
                (file.name for file in folder.iterdir() if file.suffix.lower() in FRAME_SUFFIXES), key=_numeric_key
            )
            if frames:
                return [f"{candidate}/{frames[i]}" for i in equally_spaced(len(frames), image.wanted)]
    raise MissingImage(f"{image.path} has no folder of frames")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # for example a name that is too long for the file system
        return False


def equally_spaced(total: int, wanted: int) -> list[int]:
    """`wanted` of `total` positions at equal distances, including the first and the last; at most `total`."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [total // 2]
    return [round(i * (total - 1) / (wanted - 1)) for i in range(wanted)]


def blank_image(side: int = 56) -> bytes:
    """A grey PNG that replaces a missing image."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (side, side), (128, 128, 128)).save(out, "PNG")
    return out.getvalue()


def _numeric_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts frame_2 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)], name
