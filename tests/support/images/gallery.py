"""Drawn images of every unusual kind, each with the pixels that all consumers must see."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

WIDTH, HEIGHT = 84, 56  # multiples of 28, so that no processor scales them


class Odd(NamedTuple):
    """kept: the bytes must not change."""

    data: bytes
    pixels: np.ndarray  # height x width x 3
    kept: bool = False


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def raw_png(colour: int, depth: int, values: np.ndarray, *chunks: tuple[bytes, bytes], width: int = 0) -> bytes:
    """A PNG of these bytes per row, for kinds that Pillow does not write. colour: PNG's number; chunks: before the
    pixels; width: if a value is more than one pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height = len(values)
    head = struct.pack(">IIBBBBB", width or values.shape[1], height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    body = b"".join(chunk(name, data) for name, data in chunks)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def colours() -> np.ndarray:
    """A drawing that looks different in every orientation."""
    found = np.full((HEIGHT, WIDTH, 3), (30, 90, 160), np.uint8)
    found[4:20, 6:40] = (200, 30, 30)
    found[30:50, 60:80] = (10, 220, 90)
    return found


def bar() -> np.ndarray:
    """Where a plot on transparent ground has its black bar."""
    where = np.zeros((HEIGHT, WIDTH), bool)
    where[20:36, 14:70] = True
    return where


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@cache
def gallery() -> dict[str, Odd]:
    rgb = colours()
    image, other = Image.fromarray(rgb), Image.fromarray(rgb[::-1].copy())
    where = bar()
    plot = np.where(where[..., None], np.uint8(0), np.uint8(255)).repeat(3, axis=2)  # on white
    alpha = np.where(where, np.uint8(255), np.uint8(0))
    clear = Image.fromarray(np.dstack([np.zeros((HEIGHT, WIDTH, 3), np.uint8), alpha]))
    half = np.dstack([rgb, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    mixed = ((rgb.astype(int) * 128 + 255 * 127 + 127) // 255).astype(np.uint8)
    ramp = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    grey = np.rint(ramp / 257).astype(np.uint8)[..., None].repeat(3, axis=2)
    jpeg = encoded(image, "JPEG", quality=95)
    cmyk = encoded(image.convert("CMYK"), "JPEG", quality=95)
    found = {
        "plain.png": Odd(encoded(image), rgb, True),
        "plain.jpg": Odd(jpeg, pixels_of(jpeg), True),
        "plain.webp": Odd(encoded(image, "WEBP", lossless=True), rgb, True),
        "plain.gif": Odd(encoded(image, "GIF"), rgb, True),
        "palette.png": Odd(encoded(image.quantize(8)), rgb, True),
        "grey.png": Odd(encoded(image.convert("L")), pixels_of(encoded(image.convert("L"))), True),
        "one_bit.png": Odd(encoded(Image.fromarray(~where)), plot, True),
        "opaque_rgba.png": Odd(encoded(image.convert("RGBA")), rgb, True),
        "rgb16.png": Odd(raw_png(2, 16, (rgb.astype(">u2") * 257)), rgb, True),
        "png_called.jpg": Odd(encoded(image), rgb, True),
        "rgba.png": Odd(encoded(clear), plot),
        "half_clear.png": Odd(encoded(Image.fromarray(half)), mixed),
        "palette_clear.png": Odd(encoded(clear.quantize(4)), plot),
        "grey_alpha.png": Odd(encoded(clear.convert("LA")), plot),
        "grey_one_clear.png": Odd(encoded(Image.fromarray(255 - alpha), transparency=255), plot),
        "grey2_one_clear.png": Odd(raw_png(0, 2, _two_bits(where), (b"tRNS", b"\0\1"), width=WIDTH), plot),
        "rgb_one_clear.png": Odd(
            encoded(Image.fromarray(np.where(where[..., None], np.uint8(0), np.uint8(9)).repeat(3, axis=2)),
                    transparency=(9, 9, 9)), plot,
        ),
        "rgb16_one_clear.png": Odd(
            raw_png(2, 16, np.where(where[..., None], 0, 0x1234).repeat(3, axis=2).astype(">u2"),
                    (b"tRNS", struct.pack(">3H", *[0x1234] * 3))), plot,
        ),
        "grey16.png": Odd(encoded(Image.fromarray(ramp)), grey),
        "grey16_one_clear.png": Odd(
            raw_png(0, 16, np.where(where, 0, 300).astype(">u2"), (b"tRNS", struct.pack(">H", 300))), plot
        ),
        "rgba16.png": Odd(raw_png(6, 16, np.asarray(clear).astype(">u2") * 257), plot),
        "clear.webp": Odd(encoded(clear, "WEBP", lossless=True, exact=True), plot),
        "clear.gif": Odd(encoded(clear, "GIF"), plot),
        "cmyk.jpg": Odd(cmyk, pixels_of(cmyk)),
        "cmyk.tiff": Odd(encoded(image.convert("CMYK"), "TIFF"), rgb),
        "image.bmp": Odd(encoded(image, "BMP"), rgb),
        "float.tiff": Odd(encoded(Image.fromarray(ramp.astype(np.float32) / 65535), "TIFF"), grey),
        "long.tiff": Odd(encoded(Image.fromarray(ramp.astype(np.int32)), "TIFF"), grey),
        "grey16.pgm": Odd(encoded(Image.fromarray(ramp), "PPM"), grey),
        "several.tiff": Odd(encoded(image, "TIFF", save_all=True, append_images=[other]), rgb),
        "several.mpo": Odd(
            encoded(image, "MPO", quality=95, save_all=True, append_images=[other]),
            pixels_of(encoded(image, "MPO", quality=95, save_all=True, append_images=[other])),
        ),
        "moving.png": Odd(encoded(image, "PNG", save_all=True, append_images=[other]), rgb),
        "moving.webp": Odd(encoded(image, "WEBP", lossless=True, save_all=True, append_images=[other]), rgb),
        "moving.gif": Odd(encoded(image, "GIF", save_all=True, append_images=[other]), rgb),
        "xmp_6.png": Odd(raw_png(2, 8, rgb, (b"iTXt", _XMP)), rgb.swapaxes(0, 1)[:, ::-1]),
    }  # fmt: skip
    several = found["several.mpo"].pixels
    phone = encoded(image, "MPO", quality=95, exif=oriented(6), save_all=True, append_images=[other])
    found["phone.jpg"] = Odd(phone, several.swapaxes(0, 1)[:, ::-1])
    found["exif_6.tiff"] = Odd(encoded(image, "TIFF", exif=oriented(6)), rgb.swapaxes(0, 1)[:, ::-1])
    for number in range(1, 9):
        upright = np.asarray(ImageOps.exif_transpose(_tagged(image, number)))
        jpeg = encoded(image, "JPEG", quality=95, exif=oriented(number))
        shown = np.asarray(ImageOps.exif_transpose(_tagged(Image.fromarray(pixels_of(jpeg)), number)))
        found[f"exif_{number}.jpg"] = Odd(jpeg, shown, number == 1)
        found[f"exif_{number}.png"] = Odd(encoded(image, exif=oriented(number)), upright, number == 1)
        webp = encoded(image, "WEBP", lossless=True, exif=oriented(number))
        found[f"exif_{number}.webp"] = Odd(webp, upright, number == 1)
    found["exif_0.jpg"] = Odd(encoded(image, "JPEG", quality=95, exif=oriented(0)), found["plain.jpg"].pixels, True)
    return found


_XMP = (
    b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def _two_bits(where: np.ndarray) -> np.ndarray:
    """Black where it is true, else the value 1 of 0..3."""
    values = np.where(where, 0, 1).astype(np.uint8).reshape(HEIGHT, WIDTH // 4, 4)
    packed = (values * np.array([64, 16, 4, 1], np.uint8)).sum(axis=2).astype(np.uint8)
    return packed


def _tagged(image: Image.Image, orientation: int) -> Image.Image:
    image = image.copy()
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return image


def broken() -> dict[str, bytes]:
    """What no consumer can show."""
    noise = Image.effect_noise((200, 200), 90)
    whole = {kind: encoded(noise.convert("RGB"), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")}
    cut = {f"cut.{kind.lower()}": data[: len(data) // 2] for kind, data in whole.items()}
    moving = encoded(noise, "GIF", save_all=True, append_images=[noise.rotate(90)])
    bomb = raw_png(0, 1, np.zeros((2, 1), np.uint8))
    bomb = bomb[:16] + struct.pack(">II", 14_000, 13_000) + bomb[24:]
    bomb = bomb[:29] + struct.pack(">I", zlib.crc32(bomb[12:29])) + bomb[33:]
    return cut | {
        "empty.png": b"", "text.png": b"I am no image", "head.png": whole["PNG"][:33], "cut_moving.gif": moving[:9000],
        "bomb.png": bomb, "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
    }  # fmt: skip
