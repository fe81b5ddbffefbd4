"""`DIR/images`: images as every consumer gets them, each stored once, by the hash of the bytes as they were released.

`HASH.png` (`.jpeg`, ...) holds these very bytes; `HASH.settled.png` is what `proxygrm.core.images.settle` made of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from proxygrm.core.files.whole_file import whole_file
from proxygrm.core.images.settle import Look, settle


class Stored(NamedTuple):
    name: str  # in the folder
    look: Look


class PictureStore:
    """The images of a pairs folder, or of another folder beside what is written."""

    def __init__(self, pairs_dir: Path, folder: str = "images") -> None:
        self.folder = pairs_dir / folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Stored] = {}

    def add(self, data: bytes) -> str:
        """Store the image and return its file name. Decodes it once: UnreadableImage if that fails."""
        return self.put(data).name

    def put(self, data: bytes) -> Stored:
        """The same, with what the image is and what was done to it."""
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._known:
            settled = settle(data)
            name = f"{digest}.settled.png" if settled.look.changed else f"{digest}.{settled.kind}"
            self._write(name, settled.data)
            self._known[digest] = Stored(name, settled.look)
        return self._known[digest]

    def __len__(self) -> int:
        return len(self._known)

    def _write(self, name: str, data: bytes) -> None:
        target = self.folder / name
        if not (target.exists() and target.stat().st_size == len(data)):  # a crash leaves empty files
            with whole_file(target, durable=False) as scratch:
                scratch.write_bytes(data)


def picture_hash(name: str) -> str:
    """SHA-256 of the bytes as they were released, from a file name in the store."""
    return name.partition(".")[0]
