"""Size and format of a picture, from its head alone or by decoding it all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

_REMEMBERED = 50_000
PIXELS_PER_TOKEN = 28 * 28  # Qwen2-VL and 2.5-VL: patches of 14 pixels, merged two by two
MAX_PIXELS = 1_003_520  # of the paper's training and serving
_MIN_PIXELS = 4 * PIXELS_PER_TOKEN


class Picture(NamedTuple):
    width: int
    height: int
    format: str
    bytes: int


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
        from PIL import Image

        try:
            size = len(picture) if isinstance(picture, bytes) else picture.stat().st_size
            with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
                if self._decode:
                    opened.load()
                return Picture(opened.width, opened.height, (opened.format or "?").lower(), size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return str(error)


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
