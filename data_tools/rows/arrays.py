"""Conversions between arrow and numpy, and helpers for arrow lists, whose offsets need not start at 0."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def from_numpy(values: np.ndarray) -> pa.Array:
    """Convert integers or booleans, without a copy where numpy and arrow agree."""
    if values.dtype == bool:
        return from_numpy(values.view(np.uint8)).cast(pa.bool_())
    kind = getattr(pa, str(values.dtype))()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def to_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Convert integers or booleans; raises ValueError for nulls."""
    array = single_array(values)
    if array.null_count:
        raise ValueError("nulls where numbers should be")
    if pa.types.is_boolean(array.type):
        return to_numpy(array.cast(pa.uint8())).view(bool)
    data = array.buffers()[1] if len(array) else b""
    return np.frombuffer(data, dtype=str(array.type), count=len(array))


def single_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as a single array with offset 0."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if len(chunks) == 1 and not chunks[0].offset:
        return chunks[0]
    return pa.concat_arrays(chunks) if chunks else pa.array([], column.type)


def first_items(lists: pa.Array) -> pa.Array:
    """The first element of every list; null for an empty one."""
    lengths = to_numpy(pc.list_value_length(lists))
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    positions = pc.if_else(from_numpy(lengths > 0), from_numpy(starts), pa.scalar(None, pa.int64()))
    return lists.flatten().take(positions)


def regrouped(lists: pa.Array, items: pa.Array) -> pa.Array:
    """`items` in lists of the same lengths as `lists` (which have no nulls)."""
    lengths = to_numpy(pc.list_value_length(lists))
    return in_lists(lengths, items)


def in_lists(lengths: np.ndarray, items: pa.Array) -> pa.Array:
    """`items` in lists of these lengths."""
    offsets: np.ndarray = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(from_numpy(offsets), items)
