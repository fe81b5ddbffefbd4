"""The folder with the images of a training file, so that the proxy's replicas may read them there."""

from __future__ import annotations

import os
from pathlib import Path


def image_folder(*files: Path) -> Path | None:
    """The deepest folder with all images that the rows' `extra_info.images` name (absolute paths).

    None when there are no images, when the folder does not exist here, or when it would be the root folder: then the
    images are sent to the replicas as bytes.
    """
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    folders: set[str] = set()
    for file in files:
        for batch in ParquetFile(file).iter_batches(columns=["extra_info.images"]):
            paths = batch.column(0).field("images").flatten()
            folders |= {str(Path(path).parent) for path in pc.unique(paths).to_pylist() if path}
    if not folders or not all(map(os.path.isabs, folders)):
        return None
    common = Path(os.path.commonpath([os.path.realpath(folder) for folder in folders]))
    return common if common.is_dir() and common != Path(common.anchor) else None
