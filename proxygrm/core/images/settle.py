"""Decides the pixels of an image once, by content: after `settle` every consumer sees the same image.

ms-swift, verl, vLLM's server, vLLM's engine and hosted endpoints each load images in their own way, and disagree on
transparency, EXIF orientation, unusual depths and colours, and files with several frames. A plain image, which all of
them read in the same way, keeps its bytes. Any other becomes a PNG of 8 bits without alpha; docs/data.md has the table.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

KINDS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}
"""Types that every consumer and OpenAI-style endpoint accepts: Pillow's name -> the media type's."""
READ = (
    *KINDS, "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "PCX", "SGI", "QOI", "DDS", "PSD",
)  # fmt: skip
"""Types that are read at all (and MPO, which begins as a JPEG). Not EPS and the like, which start a program."""
MAX_ASPECT = 200.0
"""Longer side by shorter side. Qwen's processor (transformers, qwen_vl_utils) raises an error above."""
_PLAIN_MODES = ("1", "L", "P", "RGB")
_ORIENTATION = 0x0112


class UnreadableImage(ValueError):
    """The bytes are not an image that can be decoded, or one that is too large for every consumer."""


@dataclass(frozen=True)
class Look:
    """An image as consumers see it. kind: of the file (`png`, `jpeg`, ...; Pillow's name of others, in lower case).
    changed: the changes needed, words of `CHANGES`; if empty, the bytes are kept."""

    kind: str
    width: int
    height: int
    changed: tuple[str, ...] = ()

    @property
    def too_thin(self) -> bool:
        return too_thin(self.width, self.height)


@dataclass(frozen=True)
class Settled:
    """The bytes for every consumer, and their true media type. sha256: of the original bytes."""

    data: bytes
    kind: str
    sha256: str
    look: Look

    @property
    def media_type(self) -> str:
        return f"image/{self.kind}"


CHANGES = (
    "first_frame",  # of an animation or a file with several images
    "turned_upright",  # by its EXIF (or XMP) orientation
    "scaled_to_8_bits",  # 16 or 32 bits a pixel, or floating point
    "on_white",  # it had transparent pixels
    "converted_to_rgb",  # from CMYK, YCbCr, LAB, ...
    "type_changed",  # a type that not all consumers accept (BMP, TIFF, ...)
)


def settle(data: bytes, decode: bool = True) -> Settled:
    """The image as every consumer gets it; settling it again changes nothing. Raises UnreadableImage.

    decode: read every pixel, which detects truncated files. Without it, images that are plain by their header (nearly
    all) are not decoded; for data that was decoded when it was ingested.
    """
    look, image = _examine(data, decode)
    digest = hashlib.sha256(data).hexdigest()
    if not look.changed:
        return Settled(data, look.kind, digest, look)
    out = io.BytesIO()
    image.save(out, "PNG")
    return Settled(out.getvalue(), "png", digest, look)


def examine(data: bytes, decode: bool = True) -> Look:
    """The result of `settle` without its bytes. Raises UnreadableImage."""
    return _examine(data, decode)[0]


def pixels(data: bytes) -> Any:
    """The RGB PIL image that consumers see. Raises UnreadableImage."""
    return _examine(data, True)[1].convert("RGB")


def size_of(source: Path | io.BytesIO) -> tuple[int, int]:
    """Width and height from the file's header. Raises UnreadableImage, also for a missing file."""
    try:
        with open_image(source) as image:
            return image.size
    except Exception as error:
        raise UnreadableImage(_reason(error)) from error


def too_thin(width: int, height: int, max_aspect: float = MAX_ASPECT) -> bool:
    """Whether processors refuse the image for its aspect ratio. Used by `data check`, `convert` and `filter`."""
    return max(width, height) > max_aspect * min(width, height)


def thinness(name: str, width: int, height: int) -> str:
    """Describes an image that is `too_thin`."""
    return f"{name} is {width} x {height}: processors refuse a longer side above {MAX_ASPECT:g} times the shorter"


def image_of(path: Path) -> bytes:
    """The file's bytes. Raises UnreadableImage."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{error.strerror or error}: {path}") from error


def _examine(data: bytes, decode: bool) -> tuple[Look, Any]:
    """The look, and the final PIL image: in the file's own mode if nothing is changed."""
    try:
        with open_image(io.BytesIO(data)) as image:
            kind = KINDS.get(image.format, str(image.format).lower())
            turned = _orientation(image, data) in range(2, 9)
            frames = getattr(image, "n_frames", 1)
            plain = image.mode in _PLAIN_MODES and "transparency" not in image.info
            if image.format in KINDS and plain and not turned and frames == 1:
                if decode:
                    image.load()
                return Look(kind, image.width, image.height), image.copy() if decode else None
            changed, final = _final(image, data, turned, frames)
            return Look(kind, final.width, final.height, tuple(word for word in CHANGES if word in changed)), final
    except Exception as error:  # decoders raise anything: EOFError, struct.error, NotImplementedError, ...
        raise UnreadableImage(_reason(error)) from error


def _final(image: Any, data: bytes, turned: bool, frames: int) -> tuple[set[str], Any]:
    from PIL import Image, ImageOps

    changed: set[str] = set()
    if frames > 1:
        image.seek(0)
        changed.add("first_frame")
    elif image.format not in KINDS:
        changed.add("type_changed")
    bits = data[24] if image.format == "PNG" else 8
    image.load()
    transparent = _transparency(image, bits)
    if turned:
        image = ImageOps.exif_transpose(image)
        changed.add("turned_upright")
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, transparent)
        changed.add("scaled_to_8_bits")
    elif transparent is not None:
        image.info["transparency"] = transparent
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema()[0] < 255:
            white = Image.new("RGB", image.size, (255, 255, 255))
            white.paste(image, mask=alpha)
            image = white
            changed.add("on_white")
    elif image.mode not in _PLAIN_MODES:
        changed.add("converted_to_rgb")
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    image.info = {}  # an ICC profile of other colours, EXIF, frame times
    return changed, image


def _transparency(image: Any, bits: int) -> Any:
    """The one transparent colour (or palette entry, or the palette's alphas) in the units of the pixels."""
    value = image.info.pop("transparency", None)
    if isinstance(value, tuple) and bits == 16:  # Pillow reads the upper 8 of 16 bits per channel
        return tuple(channel >> 8 for channel in value)
    if isinstance(value, int) and image.mode == "L" and bits < 8:  # Pillow scales the pixels to 8 bits, not this value
        return value * 255 // (2**bits - 1)
    return value


def _eight_bits(image: Any, transparent: Any) -> Any:
    """Grey of 16 or 32 bits or of floating point, scaled to 0..255; LA if it has a transparent value.

    The range is the type's if that is known (0..65535), else the smallest usual one that contains the values: 0..1 of
    floating point, 0..255, 0..65535; other values are stretched from the smallest to the largest.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0) if image.mode == "F" else (
        (65535.0,) if image.format == "PPM" else (255.0, 65535.0)
    )  # fmt: skip
    top = next((top for top in tops if high <= top), None)
    bottom = 0.0
    if low < 0 or top is None:
        bottom, top = low, high
    span = (top - bottom) or 1.0
    scaled = (np.nan_to_num(values, nan=bottom, posinf=top, neginf=bottom) - bottom) * (255.0 / span)
    grey = Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, alpha))
    return grey


def _orientation(image: Any, data: bytes) -> Any:
    """The orientation by EXIF or XMP. Pillow decodes a whole PNG to look for it behind the pixels."""
    if image.format == "PNG" and b"eXIf" not in data and b"xmp" not in data and b"exif" not in data:
        return 1
    return image.getexif().get(_ORIENTATION, 1)


def open_image(source: Any) -> Any:
    """Pillow's image, of the types that are read. Raises Pillow's errors."""
    from PIL import Image

    _prepare_pillow()
    return Image.open(source, formats=READ)


@cache
def _prepare_pillow() -> None:
    """Register all types, and ignore the warning above 89 million pixels: every consumer reads up to 179 million."""
    from PIL import Image

    Image.init()
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a type that is not read (docs/data.md); convert it to PNG or JPEG"
    if isinstance(error, Image.DecompressionBombError):
        max_pixels = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"more than {max_pixels:,} pixels, which no consumer opens; scale it down"
    return " ".join((str(error) or type(error).__name__).split())
