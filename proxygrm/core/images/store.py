"""`DIR/images`: images as every consumer gets them, each stored once, by the hash of its released bytes.

`HASH.png` (`.jpeg`, ...) has the released bytes; `HASH.settled.png` is the result of `proxygrm.core.images.settle`.
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


class ImageStore:
    """The images of a pairs folder, or of another folder beside an output file."""

    def __init__(self, pairs_dir: Path, folder: str = "images") -> None:
        self.folder = pairs_dir / folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Stored] = {}

    def add(self, data: bytes) -> str:
        """Store the image and return its file name. Decodes it; raises UnreadableImage."""
        return self.put(data).name

    def put(self, data: bytes) -> Stored:
        """Store the image and return its file name and look. Raises UnreadableImage."""
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


def image_hash(name: str) -> str:
    """SHA-256 of the released bytes, from a file name in the store."""
    return name.partition(".")[0]
