"""Folders that `datasets.save_to_disk` wrote: their JSON is no data, and their Arrow files are not ours to read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxygrm.core.errors import UserError

_EXPORT = "export each split: datasets.load_from_disk(FOLDER).to_parquet('data.parquet')"


def refuse_saved_dataset(path: Path, give: str, files: Iterable[Path] | None = None) -> None:
    """UserError, saying how to export it, for such a folder, one that holds such folders, and an Arrow file.

    files: all that are below a folder, where they are known already; else only the folder itself is looked at.
    """
    if path.suffix.lower() == ".arrow" and path.is_file():
        raise UserError(f"{path} is an Arrow file of `datasets`; {_EXPORT}, and give {give}")
    inside = path.iterdir() if files is None and path.is_dir() else files or ()
    if saved := next((file.parent for file in inside if _says_so(file)), None):
        raise UserError(f"{saved} was written by `datasets.save_to_disk`; {_EXPORT}, and give {give}")


def _says_so(file: Path) -> bool:
    """The list of splits, or the state beside Arrow files."""
    if file.name == "dataset_dict.json":
        return True
    return file.name == "state.json" and next(file.parent.glob("*.arrow"), None) is not None
