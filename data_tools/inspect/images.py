"""Size and format of an image, from its header or by decoding it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from proxygrm.core.images.settle import UnreadableImage, examine, image_of

_REMEMBERED = 50_000
PIXELS_PER_TOKEN = 28 * 28  # Qwen2-VL and 2.5-VL: patches of 14 pixels, merged two by two
MAX_PIXELS = 1_003_520  # in the paper's training and serving
_MIN_PIXELS = 4 * PIXELS_PER_TOKEN


class ImageInfo(NamedTuple):
    """As consumers see it; `format` and `bytes` are those of the file."""

    width: int
    height: int
    format: str
    bytes: int
    changed: tuple[str, ...]
    """How ingestion changes it: words of `proxygrm.core.images.settle.CHANGES`."""


class ImageInspector:
    """Inspects each file once (of the last 50,000). decode: read every pixel, which finds truncated files."""

    def __init__(self, decode: bool = False) -> None:
        self._decode = decode
        self._known: dict[Path, ImageInfo | str] = {}

    def inspect(self, image: bytes | Path) -> ImageInfo | str:
        """Its size and format, or the reason why it is not a readable image."""
        if isinstance(image, bytes):
            return self._inspect(image)
        if image not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[image] = self._inspect(image)
        return self._known[image]

    def _inspect(self, image: bytes | Path) -> ImageInfo | str:
        try:
            data = image if isinstance(image, bytes) else image_of(image)
            look = examine(data, self._decode)
        except UnreadableImage as error:
            return str(error)
        return ImageInfo(look.width, look.height, look.kind, len(data), look.changed)


def tokens(width: int, height: int, max_pixels: int = MAX_PIXELS) -> int:
    """Tokens of an image in Qwen2.5-VL: sides rounded to multiples of 28, scaled to the allowed number of pixels."""
    across, down = max(28, round(width / 28) * 28), max(28, round(height / 28) * 28)
    if across * down > max_pixels:
        shrink = (width * height / max_pixels) ** 0.5
        across, down = (max(28, int(side / shrink / 28) * 28) for side in (width, height))
    elif across * down < _MIN_PIXELS:
        grow = (_MIN_PIXELS / (width * height)) ** 0.5
        across, down = (-int(-side * grow // 28) * 28 for side in (width, height))
    return across * down // PIXELS_PER_TOKEN
