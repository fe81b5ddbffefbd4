"""Small tools for arrow's lists, whose offsets need not begin at 0."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array that begins at its own start."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if len(chunks) == 1 and not chunks[0].offset:
        return chunks[0]
    return pa.concat_arrays(chunks) if chunks else pa.array([], column.type)


def first_items(lists: pa.Array) -> pa.Array:
    """The first element of every list; null for an empty one."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    starts = np.cumsum(lengths) - lengths
    return lists.flatten().take(pa.array(starts, mask=lengths == 0))


def regrouped(lists: pa.Array, items: pa.Array) -> pa.Array:
    """Lists as long as these (which have no nulls), of other items."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return in_lists(lengths, items)


def in_lists(lengths: np.ndarray, items: pa.Array) -> pa.Array:
    """The items in lists of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)
