"""How the images of a request reach one replica: in full the first time, afterwards by uuid.

vLLM keeps the images it has prepared and finds them by the `uuid` of a message part, whose image may then be left
out. When it has dropped one it refuses with a clear error, and the request is sent once more in full. The rollouts of
one prompt often come together: the first uploads their image, and the others wait for that upload.

vLLM remembers an image in two places, its front and its engine. A request that ends between the two (cancelled while
its image is prepared, or refused because image and text are too long together) leaves a uuid that the front knows
and the engine does not, and every request with that uuid fails from then on, also in full. The image is then given
another uuid.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence

from proxygrm.serving.pool.image import ImageRef

REMEMBERED = 4096
"""Images that a replica is believed to have."""
MISS_PAUSES_S = (0.05, 0.2)
"""An image that has just arrived is prepared for a moment before its uuid is known."""


class Delivery:
    """Which images one replica has. remembers: it is a server that keeps them by uuid (vLLM)."""

    def __init__(self, remembers: bool) -> None:
        self.remembers = remembers
        self.reads_paths = True
        self._known: OrderedDict[str, None] = OrderedDict()
        self._changes: dict[str, int] = {}
        self._uploads: dict[str, asyncio.Future[None]] = {}

    def uuid_of(self, image: ImageRef) -> str:
        """What the server remembers the image by; "" if it remembers none."""
        if not self.remembers:
            return ""
        changes = self._changes.get(image.name, 0)
        return f"{image.name}.{changes}" if changes else image.name

    def change_uuids(self, images: Sequence[ImageRef], failed: Sequence[str]) -> None:
        """failed: the uuids of these images in the request that failed. Another request with the same uuids may have
        changed them already; then nothing is left to do."""
        for image, uuid in zip(images, failed, strict=True):
            if self.uuid_of(image) == uuid:
                self._changes[image.name] = self._changes.get(image.name, 0) + 1
                self._known.pop(image.name, None)

    async def known(self, images: Sequence[ImageRef]) -> frozenset[str]:
        """Names of the images that may be sent by uuid alone. Waits while other requests upload the same images."""
        if not self.remembers:
            return frozenset()
        for image in images:
            upload = self._uploads.get(image.name)
            if upload is not None and image.name not in self._known:
                await asyncio.shield(upload)
        return frozenset(image.name for image in images if image.name in self._known)

    @contextlib.contextmanager
    def uploading(self, names: Collection[str]) -> Iterator[Callable[[], None]]:
        """While a request uploads these images; yields a function to call when all of it has been sent."""
        mine = set(names) - self._uploads.keys() if self.remembers else set()
        upload = asyncio.get_running_loop().create_future()
        self._uploads |= dict.fromkeys(mine, upload)

        def sent() -> None:
            if not upload.done():
                for name in mine:
                    self._uploads.pop(name, None)
                    self._remember(name)
                upload.set_result(None)

        try:
            yield sent
        finally:
            if not upload.done():  # it failed: the requests that waited for it upload the images themselves
                for name in mine:
                    self._uploads.pop(name, None)
                upload.set_result(None)

    def answered(self, images: Sequence[ImageRef]) -> None:
        """The replica has used these images."""
        if self.remembers:
            for image in images:
                self._remember(image.name)

    def forget(self, images: Sequence[ImageRef]) -> None:
        for image in images:
            self._known.pop(image.name, None)

    def _remember(self, name: str) -> None:
        self._known[name] = None
        self._known.move_to_end(name)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
