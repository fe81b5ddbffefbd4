"""A picture as a part of a chat message: by its path where the server may read it, else by its bytes. The servers get
what trainers and judges get (`proxygrm.core.images.settle`): a file that they would read differently goes settled, by
its bytes.

What many calls wait with is a name and a path; a picture is read and encoded when it is about to be sent.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from proxygrm.core.images.settle import UnreadableImage, examine, settle

Picture = bytes | Path | str
"""Content, or where it is."""
CACHE_BYTES = 256 * 1024**2
"""Of encoded pictures; the rollouts of one prompt ask for the same one within minutes."""


@dataclass(frozen=True)
class Shown:
    """name: of the content, or of the path with its size and time of change; the server may remember it by this.
    path_url: JSON of the `file:` URL, when it lies in the folder that the servers may read."""

    name: str
    picture: bytes | str = field(repr=False)
    path_url: bytes | None


def part_in_full(url: bytes, name: str) -> bytes:
    """JSON of a message part with its picture. name: for the server to remember it by; "" for none."""
    remember = b',"uuid":"%s"' % name.encode() if name else b""
    return b'{"type":"image_url","image_url":{"url":%s}%s}' % (url, remember)


def part_by_name(name: str) -> bytes:
    """The same for a picture that the server has."""
    return b'{"type":"image_url","image_url":null,"uuid":"%s"}' % name.encode()


def identify(picture: Picture, folder: Path | None) -> Shown:
    """folder: what the servers may read, resolved. Raises OSError when it is not there, ValueError when it is empty."""
    if isinstance(picture, bytes):
        if not picture:
            raise ValueError("the picture is empty")
        return Shown(hashlib.sha256(picture).hexdigest(), picture, None)
    path = Path(picture).resolve()
    info = path.stat()
    if not info.st_size or path.is_dir():
        raise ValueError(f"the picture is empty or a folder: {picture}")
    name = hashlib.sha256(os.fsencode(path) + b"\0%d\0%d" % (info.st_size, info.st_mtime_ns)).hexdigest()
    url = None
    if folder is not None and folder in path.parents and _plain(str(path), info.st_size, info.st_mtime_ns):
        url = json.dumps(path.as_uri()).encode()
    return Shown(name, str(path), url)


@lru_cache(maxsize=50_000)
def _plain(path: str, size: int, changed: int) -> bool:
    """May the server open the file itself? Not one that it would read differently from the trainers; a broken one it
    refuses."""
    try:
        return not examine(Path(path).read_bytes(), decode=False).changed
    except (UnreadableImage, OSError):
        return True


class Encoder:
    """Pictures as data URLs, each read and encoded once while it is in use; of one event loop."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most, self._size = most_bytes, 0
        self._urls: OrderedDict[str, bytes] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    async def data_url(self, shown: Shown) -> bytes:
        """JSON of the URL. Raises OSError, or ValueError when the file is empty by now."""
        found = self._urls.get(shown.name)
        if found is not None:
            self._urls.move_to_end(shown.name)
            return found
        task = self._under_way.get(shown.name)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(_encode, shown.picture))
            self._under_way[shown.name] = task
            task.add_done_callback(lambda done: self._keep(shown.name, done))
        return await asyncio.shield(task)  # one caller's cancellation is not the others'

    def _keep(self, name: str, done: asyncio.Task[bytes]) -> None:
        """Least recently used go first when all of them are too large."""
        self._under_way.pop(name, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._urls[name] = done.result()
        self._size += len(done.result())
        while self._size > self._most and len(self._urls) > 1:
            self._size -= len(self._urls.popitem(last=False)[1])


def _encode(picture: bytes | str) -> bytes:
    content = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    if not content:
        raise ValueError(f"the picture is empty: {picture!r}")
    try:
        settled = settle(content, decode=False)
        content, media_type = settled.data, settled.media_type
    except UnreadableImage:  # the server says so
        media_type = "application/octet-stream"
    return b'"data:%s;base64,%s"' % (media_type.encode(), base64.b64encode(content))
