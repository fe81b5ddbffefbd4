"""A picture as the chat API takes it: a data URL."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path

_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tiff"))
_CACHED = 512  # pictures; the rollouts of one prompt ask for the same one within minutes


def picture_bytes(picture: bytes | Path | str) -> bytes:
    """Content of a picture that is given as such or by its path. Raises OSError, or ValueError when empty."""
    if isinstance(picture, bytes):
        content = picture
    else:
        path = Path(picture)
        info = path.stat()
        content = _read(path, info.st_mtime_ns, info.st_size)
    if not content:
        raise ValueError(f"the picture is empty: {'bytes' if isinstance(picture, bytes) else picture}")
    return content


@lru_cache(maxsize=_CACHED)
def _read(path: Path, modified_ns: int, size: int) -> bytes:
    return path.read_bytes()


@lru_cache(maxsize=_CACHED)
def data_url(content: bytes) -> str:
    kind = next((kind for magic, kind in _MAGIC if content.startswith(magic)), "webp")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
