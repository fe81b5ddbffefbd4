"""The images of requests: paths below a folder, data URLs, or the hash of one that was uploaded before."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from pathlib import Path

from proxygrm.core.images.fields import NoImage, of_text
from proxygrm.serving.front.images import MAX_PIXELS, BadImage, Images, read_image
from proxygrm.serving.pool.image import ImageInput
from proxygrm.serving.replicas.command import MAX_IMAGES

STORE_BYTES = 1 << 30
"""Of uploaded images; the least recently used are dropped."""
DECODERS = 4
"""Images that are decoded at a time, so that large ones do not fill the memory together."""
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


class UnknownImage(BadImage):
    """A hash of no image that is kept here."""


class UploadedImages:
    """Keeps what was uploaded, by the SHA-256 of the bytes as they were sent."""

    def __init__(self, folder: Path | None, max_bytes: int = STORE_BYTES) -> None:
        """folder: from which requests may name images by path, resolved; None: no paths."""
        self._folder, self._max_bytes, self._bytes = folder, max_bytes, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._decoders = asyncio.Semaphore(DECODERS)

    async def read(self, images: Images) -> list[ImageInput]:
        """Raises BadImage, and UnknownImage for an unknown hash."""
        texts = [images] if isinstance(images, str) else images or []
        if len(texts) > MAX_IMAGES:
            raise BadImage(f"{len(texts)} images; at most {MAX_IMAGES} are shown to a model")
        if not all(texts):
            raise BadImage("an entry of the list is empty")
        return [await self._read(text) for text in texts]

    async def _read(self, text: str) -> ImageInput:
        if text.startswith("sha256:"):
            return self._uploaded(text)
        async with self._decoders:
            image, digest = await asyncio.to_thread(self._decode, text)
        if isinstance(image, bytes):
            self._keep(digest, image)
        elif not Path(image).is_file():
            raise BadImage(f"there is no file {Path(image).name} in the folder of images")
        return image

    def _decode(self, text: str) -> tuple[ImageInput, str]:
        """The image, settled, and the hash of its bytes as they were sent."""
        image = read_image(text, self._folder, MAX_PIXELS)
        if not isinstance(image, bytes):
            return image, ""
        try:
            sent = of_text(text)
        except NoImage as error:
            raise BadImage(str(error)) from None
        return image, hashlib.sha256(sent if isinstance(sent, bytes) else image).hexdigest()

    def _uploaded(self, text: str) -> bytes:
        named = _HASH.fullmatch(text)
        if named is None:
            raise BadImage("the hash of an image is sha256: and 64 hexadecimal digits")
        if named[1] not in self._kept:
            raise UnknownImage(f"no image {text[:19]}... is kept here; send it once as a data URL")
        self._kept.move_to_end(named[1])
        return self._kept[named[1]]

    def _keep(self, digest: str, image: bytes) -> None:
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return
        self._kept[digest] = image
        self._bytes += len(image)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])
