"""The images of a request: by path where the server may read them, else by their bytes. The servers get what trainers
and judges get (`proxygrm.core.images.settle`): a file that they would read differently is sent settled, by its bytes.

Calls that wait for a replica hold a name and a path; an image is read and encoded when it is about to be sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from proxygrm.core.images.settle import UnreadableImage, examine
from proxygrm.serving.chat.request import data_url, settled_data_url

ImageInput = bytes | Path | str
"""Content, or the path to it."""
CACHE_BYTES = 256 * 1024**2
"""Of encoded images; the rollouts of one prompt need the same one within minutes."""


@dataclass(frozen=True)
class ImageRef:
    """name: a hash of the content, or of the path with its size and time of change. path_url: JSON of the `file:` URL,
    when the image is in the folder that the servers may read."""

    name: str
    image: bytes | str = field(repr=False)
    path_url: bytes | None


def identify(image: ImageInput, folder: Path | None) -> ImageRef:
    """folder: what the servers may read, resolved. Raises OSError for a missing image, ValueError for an empty one."""
    if isinstance(image, bytes):
        if not image:
            raise ValueError("the image is empty")
        return ImageRef(hashlib.sha256(image).hexdigest(), image, None)
    path = Path(image).resolve()
    info = path.stat()
    if not info.st_size or path.is_dir():
        raise ValueError(f"the image is empty or a folder: {image}")
    name = hashlib.sha256(os.fsencode(path) + b"\0%d\0%d" % (info.st_size, info.st_mtime_ns)).hexdigest()
    url = None
    if folder is not None and folder in path.parents and _reads_alike(str(path), info.st_size, info.st_mtime_ns):
        url = json.dumps(path.as_uri()).encode()
    return ImageRef(name, str(path), url)


@lru_cache(maxsize=50_000)
def _reads_alike(path: str, size: int, mtime_ns: int) -> bool:
    """Would the server, opening the file itself, see the same pixels as the trainers? (It refuses a broken file.)"""
    try:
        return not examine(Path(path).read_bytes(), decode=False).changed
    except (UnreadableImage, OSError):
        return True


class Encoder:
    """Images as data URLs, each read and encoded once while it is in use; of one event loop."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._urls: OrderedDict[str, bytes] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[bytes]] = {}

    async def data_url(self, image: ImageRef) -> bytes:
        """JSON of the URL. Raises OSError, or ValueError when the file is empty by now."""
        url = self._urls.get(image.name)
        if url is not None:
            self._urls.move_to_end(image.name)
            return url
        task = self._tasks.get(image.name)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(_encode, image.image))
            self._tasks[image.name] = task
            task.add_done_callback(lambda done: self._keep(image.name, done))
        return await asyncio.shield(task)  # a caller that is cancelled does not cancel the others

    def _keep(self, name: str, done: asyncio.Task[bytes]) -> None:
        """The least recently used are dropped when all of them together are too large."""
        self._tasks.pop(name, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._urls[name] = done.result()
        self._bytes += len(done.result())
        while self._bytes > self._max_bytes and len(self._urls) > 1:
            self._bytes -= len(self._urls.popitem(last=False)[1])


def _encode(image: bytes | str) -> bytes:
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    if not content:
        raise ValueError(f"the image is empty: {image!r}")
    try:
        return settled_data_url(content)
    except UnreadableImage:  # the server refuses it, with its reason
        return data_url(content, "application/octet-stream")
