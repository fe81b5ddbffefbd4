"""Paths of images (and of a release's files) below a root, links followed.

A path that leaves the root (`..`, an absolute path elsewhere, a link out of it) is refused: a published file of pairs
must not copy a user's own files into a data set. One kind of link may leave the root: in Hugging Face's cache the files
of `snapshots/REVISION` are links into `blobs` beside it.
"""

from __future__ import annotations

import os.path
from pathlib import Path


class OutsideRoot(ValueError):
    """A path that leaves the images' root."""


class MissingImage(ValueError):
    """No file at the path, or no frames in the folder of a video."""


def inside(name: str, root: Path) -> Path:
    """The resolved path, links followed, whether or not it exists. `root` must be resolved.

    Raises OutsideRoot, and MissingImage for a text that cannot be a path.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, a lone surrogate, a loop of links
        raise MissingImage(ascii(name)) from error
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
    """The file, links followed. Raises OutsideRoot, MissingImage."""
    path = inside(name, root)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name the file system cannot hold
        pass
    raise MissingImage(name)


def _blobs(root: Path) -> Path | None:
    """The `blobs` of the repository in Hugging Face's cache, if `root` is one of its snapshots or inside one."""
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots":
            blobs = folder.parent.parent / "blobs"
            return blobs.resolve() if blobs.is_dir() else None
    return None
