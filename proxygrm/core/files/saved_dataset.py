"""Folders of `datasets.save_to_disk`: their JSON is not data, and we do not read their Arrow files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxygrm.core.errors import UserError

_EXPORT = "export each split: datasets.load_from_disk(FOLDER).to_parquet('data.parquet')"


def refuse_saved_dataset(path: Path, give: str, files: Iterable[Path] | None = None) -> None:
    """Raise UserError (file.saved-dataset), with how to export it, for such a folder, its parent, and an Arrow file.

    give: what to give instead. files: all files below the folder, if known; otherwise only its direct ones are checked.
    """
    if path.suffix.lower() == ".arrow" and path.is_file():
        raise UserError(
            f"{path} is an Arrow file of `datasets`; {_EXPORT}, and give {give}", code="file.saved-dataset", path=path
        )
    inside = path.iterdir() if files is None and path.is_dir() else files or ()
    if saved := next((file.parent for file in inside if _marks_saved_dataset(file)), None):
        raise UserError(
            f"{saved} was written by `datasets.save_to_disk`; {_EXPORT}, and give {give}",
            code="file.saved-dataset",
            path=saved,
        )


def _marks_saved_dataset(file: Path) -> bool:
    """The list of splits, or the state file beside Arrow files."""
    if file.name == "dataset_dict.json":
        return True
    return file.name == "state.json" and next(file.parent.glob("*.arrow"), None) is not None
