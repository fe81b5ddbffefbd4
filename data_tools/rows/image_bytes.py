"""Image files as a column of bytes, in pieces that fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_tools.rows.arrays import from_numpy, to_numpy
from proxygrm.core.errors import UserError


class ImageBytes:
    """Reads files into one reused buffer: an array that `read` returned is valid until the next `read`."""

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: bytes in memory; a single larger row is still read."""
        self._max_bytes = max_bytes
        self._buffer: np.ndarray = np.empty(max_bytes, dtype=np.uint8)

    def cuts(self, paths: pa.Array) -> Iterator[tuple[int, int, list[int]]]:
        """(first row, end row, sizes of their files) of lists of paths. Raises UserError for a missing file."""
        sizes = [_size(path) for path in paths.flatten().to_pylist()]
        ends = np.cumsum(to_numpy(pc.list_value_length(paths)))
        position = begin = total = yielded = 0
        for row, end in enumerate(ends.tolist()):
            more = sum(sizes[position:end])
            if row > begin and total + more > self._max_bytes:
                yield begin, row, sizes[yielded:position]
                begin, total, yielded = row, 0, position
            total += more
            position = end
        if len(ends):
            yield begin, len(ends), sizes[yielded:]

    def read(self, paths: list[str], sizes: list[int]) -> pa.Array:
        """The bytes of the files. Raises UserError for one that cannot be read or has changed its size since `cuts`."""
        offsets: np.ndarray = np.zeros(len(sizes) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        if offsets[-1] > np.iinfo(np.int32).max:
            raise UserError(
                f"the images of one row have {offsets[-1] >> 20} MB together; at most 2047 MB fit, make them smaller",
                code="image.too-large", megabytes=int(offsets[-1] >> 20), most=2047,
            )  # fmt: skip
        if offsets[-1] > len(self._buffer):
            self._buffer = np.empty(int(offsets[-1]), dtype=np.uint8)
        target = self._buffer.data
        for path, begin, end in zip(paths, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            _read_into(path, target[begin:end])
        offsets_buffer = from_numpy(offsets.astype(np.int32)).buffers()[1]
        return pa.Array.from_buffers(pa.binary(), len(sizes), [None, offsets_buffer, pa.py_buffer(self._buffer)])


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - three times as fast
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_into(path: str, target: memoryview) -> None:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
            count = 0
            while count < len(target) and (more := file.readinto(target[count:])):
                count += more
            if count < len(target) or file.read(1):
                raise UserError(
                    f"the image {path} changed while it was read; do not change it, and run again",
                    code="image.changed", path=path,
                )  # fmt: skip
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(
        f"the image {path} cannot be read ({error.strerror}); ingest the data again",
        code="image.unreadable", path=path, reason=error.strerror,
    )  # fmt: skip
