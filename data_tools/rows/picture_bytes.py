"""Files of pictures as a column of bytes, in pieces that fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_tools.rows.arrays import from_numpy, to_numpy
from proxygrm.core.errors import UserError


class PictureBytes:
    """Reads files into one buffer that is used again: an array that `read` gave is good until the next `read`."""

    def __init__(self, at_once: int) -> None:
        """at_once: bytes in memory, a single larger row aside."""
        self._at_once = at_once
        self._buffer: np.ndarray = np.empty(at_once, dtype=np.uint8)

    def cuts(self, paths: pa.Array) -> Iterator[tuple[int, int, list[int]]]:
        """(first row, end, size of each of their files) of lists of paths. Raises UserError for a lost file."""
        sizes = [_size(path) for path in paths.flatten().to_pylist()]
        ends = np.cumsum(to_numpy(pc.list_value_length(paths)))
        at = begin = total = taken = 0
        for row, end in enumerate(ends.tolist()):
            more = sum(sizes[at:end])
            if row > begin and total + more > self._at_once:
                yield begin, row, sizes[taken:at]
                begin, total, taken = row, 0, at
            total += more
            at = end
        if len(ends):
            yield begin, len(ends), sizes[taken:]

    def read(self, paths: list[str], sizes: list[int]) -> pa.Array:
        """The files' bytes. Raises UserError for one that cannot be read or has changed its size since `cuts`."""
        offsets: np.ndarray = np.zeros(len(sizes) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        if offsets[-1] > np.iinfo(np.int32).max:
            raise UserError(f"pictures of one row hold {offsets[-1] >> 20} MB; 2047 MB fit, make them smaller")
        if offsets[-1] > len(self._buffer):
            self._buffer = np.empty(int(offsets[-1]), dtype=np.uint8)
        room = self._buffer.data
        for path, begin, end in zip(paths, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            _read_into(path, room[begin:end])
        places = from_numpy(offsets.astype(np.int32)).buffers()[1]
        return pa.Array.from_buffers(pa.binary(), len(sizes), [None, places, pa.py_buffer(self._buffer)])


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a third of the time
    except OSError as error:
        raise UserError(f"the picture {path} cannot be read ({error.strerror}); ingest the data again") from error


def _read_into(path: str, room: memoryview) -> None:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - the same
            done = 0
            while done < len(room) and (more := file.readinto(room[done:])):
                done += more
            if done < len(room) or file.read(1):
                raise UserError(f"the picture {path} changed while it was read; leave it alone and run again")
    except OSError as error:
        raise UserError(f"the picture {path} cannot be read ({error.strerror}); ingest the data again") from error
