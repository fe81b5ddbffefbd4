"""The images of a request: paths below a folder, data URLs, or a list of these."""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache
from pathlib import Path

from proxygrm.core.images.fields import NoImage, of_text
from proxygrm.core.images.paths import OutsideRoot, inside
from proxygrm.core.images.settle import UnreadableImage, examine, image_of, settle, size_of
from proxygrm.serving.pool.image import ImageInput

Images = str | list[str] | None


class BadImage(ValueError):
    """The request's image cannot be used."""


MAX_PIXELS = 50_000_000
"""Of an image whose size a caller chooses: 150 MB when it is decoded."""


async def read_images(images: Images, folder: Path | None) -> list[ImageInput]:
    """Raises BadImage. A missing file is noticed when it is sent (cause image_missing)."""
    if not images:
        return []
    texts = [images] if isinstance(images, str) else images
    if not all(texts):
        raise BadImage("an entry of the list is empty")
    return [await asyncio.to_thread(read_image, text, folder) for text in texts]


def read_image(text: str, folder: Path | None, max_pixels: int = 0) -> ImageInput:
    """max_pixels: more are refused before the image is decoded; 0: as many as every consumer opens. Raises BadImage."""
    try:
        image = of_text(text)
        if isinstance(image, bytes):
            _refuse_large(io.BytesIO(image), max_pixels)
            return settle(image).data
    except (NoImage, UnreadableImage) as error:
        raise BadImage(str(error)) from None
    if not isinstance(image, str):
        raise BadImage(image.why)
    if folder is None:
        raise BadImage("this front end takes no paths (started without --images); send a data URL")
    try:
        path = inside(image, folder)
        if path == folder:
            raise OutsideRoot("the folder of images itself")
        info = path.stat() if path.is_file() else None
        if info is not None:
            _refuse_large(path, max_pixels)
            _check_decodes(path, info.st_size, info.st_mtime_ns)
    except OutsideRoot:
        raise BadImage("the path is outside the folder of images") from None
    except UnreadableImage as error:
        raise BadImage(f"{path.name}: {error}") from None
    except (OSError, ValueError) as error:
        raise BadImage(f"not a path: {str(error)[:200]}") from None
    return path


def _refuse_large(source: Path | io.BytesIO, max_pixels: int) -> None:
    """By the header. Raises UnreadableImage."""
    width, height = size_of(source) if max_pixels else (0, 0)
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} x {height} pixels, more than {max_pixels:,}; scale it down")


@lru_cache(maxsize=50_000)
def _check_decodes(path: Path, size: int, mtime_ns: int) -> None:
    """Raises UnreadableImage, for a truncated file say. Cached: the rollouts of one prompt send the same image."""
    examine(image_of(path))
