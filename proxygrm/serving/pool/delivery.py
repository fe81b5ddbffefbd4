"""How the pictures of a request reach one replica: in full the first time, afterwards by name.

vLLM keeps the pictures it has prepared and finds them by the `uuid` of a message part, whose picture may then be left
out. When it has dropped one it refuses with a clear error and the request is sent once more in full. So that the
rollouts of one prompt, which often come together, upload their picture once, those that come while it is under way
wait for that upload.

vLLM remembers a picture in two places, its front and its engine. A request that ends between the two (cancelled while
its picture is prepared, or refused because picture and text are too long together) leaves a name that the front knows
and the engine does not, and every request with that name fails from then on, also in full. The picture is then given
another name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence

from proxygrm.serving.pool.picture import Shown

REMEMBERED = 4096
"""Pictures a replica is believed to have."""
MISS_PAUSES_S = (0.05, 0.2)
"""A picture that has just arrived is prepared for a moment before it can be named."""
CHUNK_BYTES = 256 * 1024


class Delivery:
    """What one replica has of pictures. by_name: it is a server that remembers them (vLLM)."""

    def __init__(self, by_name: bool) -> None:
        self.by_name = by_name
        self.reads_paths = True
        self._has: OrderedDict[str, None] = OrderedDict()
        self._renamed: dict[str, int] = {}
        self._uploads: dict[str, asyncio.Future[None]] = {}

    def name_of(self, picture: Shown) -> str:
        """What the server is told to remember it by; "" if it remembers none."""
        if not self.by_name:
            return ""
        times = self._renamed.get(picture.name, 0)
        return f"{picture.name}.{times}" if times else picture.name

    def rename(self, pictures: Sequence[Shown], failed: Sequence[str]) -> None:
        """failed: the names that the pictures had in the request that failed; who comes later finds them changed."""
        for picture, name in zip(pictures, failed, strict=True):
            if self.name_of(picture) == name:
                self._renamed[picture.name] = self._renamed.get(picture.name, 0) + 1
                self._has.pop(picture.name, None)

    async def named(self, pictures: Sequence[Shown]) -> frozenset[str]:
        """Names that may be sent without their picture. Waits for uploads of the same pictures by others."""
        if not self.by_name:
            return frozenset()
        for picture in pictures:
            upload = self._uploads.get(picture.name)
            if upload is not None and picture.name not in self._has:
                await asyncio.shield(upload)
        return frozenset(picture.name for picture in pictures if picture.name in self._has)

    @contextlib.contextmanager
    def sending(self, names: Collection[str]) -> Iterator[Callable[[], None]]:
        """For the time of a request that uploads these pictures; yields a function to call when all has been sent."""
        mine = set(names) - self._uploads.keys() if self.by_name else set()
        turn = asyncio.get_running_loop().create_future()
        self._uploads |= dict.fromkeys(mine, turn)

        def sent() -> None:
            if not turn.done():
                for name in mine:
                    self._uploads.pop(name, None)
                    self._remember(name)
                turn.set_result(None)

        try:
            yield sent
        finally:
            if not turn.done():  # it failed: those who waited send it themselves
                for name in mine:
                    self._uploads.pop(name, None)
                turn.set_result(None)

    def answered(self, pictures: Sequence[Shown]) -> None:
        """The replica has used these pictures."""
        if self.by_name:
            for picture in pictures:
                self._remember(picture.name)

    def forget(self, pictures: Sequence[Shown]) -> None:
        for picture in pictures:
            self._has.pop(picture.name, None)

    def _remember(self, name: str) -> None:
        self._has[name] = None
        self._has.move_to_end(name)
        if len(self._has) > REMEMBERED:
            self._has.popitem(last=False)


async def in_chunks(body: bytes, sent: Callable[[], None]) -> AsyncIterator[memoryview]:
    """A large body bit by bit, so that other calls go on meanwhile; `sent` is called after the last bit."""
    view = memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
    sent()
