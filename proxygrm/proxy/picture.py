"""A picture as a part of a chat message: by its path where the server may read it, else by its bytes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

Picture = bytes | Path | str
"""Content, or where it is."""
CACHE_BYTES = 256 * 1024**2
"""Of encoded pictures; the rollouts of one prompt ask for the same one within minutes."""
_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tiff"))


@dataclass(frozen=True)
class Part:
    """name: what the server may remember the picture by, of its content (or of its path, size and time of change).
    url: JSON of the URL, `data:` or `file:`."""

    name: str
    url: bytes

    @property
    def uploads(self) -> bool:
        """Does the message carry the picture itself?"""
        return self.url.startswith(b'"data:')

    def whole(self, named: bool) -> bytes:
        """The part with its picture; named: the server is to remember it."""
        name = b',"uuid":"%s"' % self.name.encode() if named else b""
        return b'{"type":"image_url","image_url":{"url":%s}%s}' % (self.url, name)

    def by_name(self) -> bytes:
        return b'{"type":"image_url","image_url":null,"uuid":"%s"}' % self.name.encode()


class Parts:
    """Parts made lately, each read and encoded once; of one event loop. folder: what the servers may read."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).resolve() if folder else None
        self._loading: dict[object, asyncio.Task[Part]] = {}

    async def part(self, picture: Picture) -> Part:
        """Raises OSError when it is not there, ValueError when it is empty."""
        if isinstance(picture, bytes):
            if not picture:
                raise ValueError("the picture is empty")
            name = hashlib.sha256(picture).hexdigest()
            return _CACHE.get(name) or _CACHE.add(name, Part(name, _data_url(picture)))
        path = os.path.realpath(picture)
        info = os.stat(path)  # noqa: PTH116
        if not info.st_size:
            raise ValueError(f"the picture is empty: {picture}")
        name = hashlib.sha256(f"{path}\0{info.st_size}\0{info.st_mtime_ns}".encode(errors="replace")).hexdigest()
        if self._folder and self._folder in Path(path).parents:
            return Part(name, json.dumps(Path(path).as_uri()).encode())
        found = _CACHE.get(name)
        if found is not None:
            return found
        loading = self._loading.get(name)
        if loading is None:
            loading = asyncio.create_task(asyncio.to_thread(_read, path, name))
            self._loading[name] = loading
            loading.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(loading)  # one caller's cancellation is not the others'


def _read(path: str, name: str) -> Part:
    content = Path(path).read_bytes()
    if not content:
        raise ValueError(f"the picture is empty: {path}")
    # Named by its content: the same picture under two paths is one to the server.
    return _CACHE.add(name, Part(hashlib.sha256(content).hexdigest(), _data_url(content)))


def _data_url(content: bytes) -> bytes:
    kind = next((kind for magic, kind in _MAGIC if content.startswith(magic)), "webp")
    return b'"data:image/%s;base64,%s"' % (kind.encode(), base64.b64encode(content))


class _Cache:
    """Least recently used go first when the sum of their sizes is too large."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._size = most_bytes, 0
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Part | None:
        with self._lock:
            found = self._parts.get(key)
            if found is not None:
                self._parts.move_to_end(key)
            return found

    def add(self, key: str, part: Part) -> Part:
        with self._lock:
            if key not in self._parts:
                self._parts[key] = part
                self._size += len(part.url)
            while self._size > self._most and len(self._parts) > 1:
                self._size -= len(self._parts.popitem(last=False)[1].url)
        return part


_CACHE = _Cache(CACHE_BYTES)
