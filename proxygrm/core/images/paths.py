"""Paths of images (and of a release's files) below a root, links followed.

A path that leaves the root (`..`, an absolute path elsewhere, a link that points out) is refused: a file of pairs
comes from other people, and must not copy a reader's own files into a data set. One kind of link may point out: in
Hugging Face's cache the files of `snapshots/REVISION` are links into `blobs` beside it.
"""

from __future__ import annotations

import os.path
from pathlib import Path


class OutsideRoot(ValueError):
    """A path that points out of the images' root."""


class MissingPicture(ValueError):
    """No file at the path, or no frames in the folder of a video."""


def inside(name: str, root: Path) -> Path:
    """Where the path leads, links followed, whether or not a file is there. `root` is itself resolved.

    Raises OutsideRoot, and MissingPicture for what cannot be a path.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, a lone surrogate, a circle of links
        raise MissingPicture(ascii(name)) from error
    if path.is_relative_to(root):
        return path
    if not Path(os.path.normpath(root / name)).is_relative_to(root):
        raise OutsideRoot(name)
    blobs = _blobs(root)
    if blobs is None or not path.is_relative_to(blobs):
        raise OutsideRoot(
            f"{name} is a link out of {root}; copy the folder with its files (cp -rL), or download with --local-dir"
        )
    return path


def resolve(name: str, root: Path) -> Path:
    """The file, links followed. Raises OutsideRoot, MissingPicture."""
    path = inside(name, root)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name the file system cannot hold
        pass
    raise MissingPicture(name)


def _blobs(root: Path) -> Path | None:
    """The `blobs` of the repository in Hugging Face's cache whose snapshot `root` is, or lies in."""
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots":
            blobs = folder.parent.parent / "blobs"
            return blobs.resolve() if blobs.is_dir() else None
    return None
