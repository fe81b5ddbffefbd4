"""Size and format of a picture, from its head alone or by decoding it all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from proxygrm.core.images.settle import UnreadableImage, examine, image_of

_REMEMBERED = 50_000
PIXELS_PER_TOKEN = 28 * 28  # Qwen2-VL and 2.5-VL: patches of 14 pixels, merged two by two
MAX_PIXELS = 1_003_520  # of the paper's training and serving
_MIN_PIXELS = 4 * PIXELS_PER_TOKEN


class Picture(NamedTuple):
    """As consumers see it; `format` and `bytes` are those of the file."""

    width: int
    height: int
    format: str
    bytes: int
    changed: tuple[
        str, ...
    ]  # what is done to it where it enters the suite: words of `proxygrm.core.images.settle.CHANGES`


class Opener:
    """Looks at each file once (as far as it remembers). `decode`: read every pixel, which finds cut-off files."""

    def __init__(self, decode: bool = False) -> None:
        self._decode = decode
        self._known: dict[Path, Picture | str] = {}

    def look(self, picture: bytes | Path) -> Picture | str:
        """What it is; a text that says why it is no picture."""
        if isinstance(picture, bytes):
            return self._open(picture)
        if picture not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[picture] = self._open(picture)
        return self._known[picture]

    def _open(self, picture: bytes | Path) -> Picture | str:
        try:
            data = picture if isinstance(picture, bytes) else image_of(picture)
            found = examine(data, self._decode)
        except UnreadableImage as error:
            return str(error)
        return Picture(found.width, found.height, found.kind, len(data), found.changed)


def tokens(width: int, height: int, max_pixels: int = MAX_PIXELS) -> int:
    """Tokens of a picture in Qwen2.5-VL: sides rounded to multiples of 28, scaled into the bounds of pixels."""
    across, down = max(28, round(width / 28) * 28), max(28, round(height / 28) * 28)
    if across * down > max_pixels:
        shrink = (width * height / max_pixels) ** 0.5
        across, down = (max(28, int(side / shrink / 28) * 28) for side in (width, height))
    elif across * down < _MIN_PIXELS:
        grow = (_MIN_PIXELS / (width * height)) ** 0.5
        across, down = (-int(-side * grow // 28) * 28 for side in (width, height))
    return across * down // PIXELS_PER_TOKEN
