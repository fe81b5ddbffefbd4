"""Pairs in the order in which somebody saw their responses."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def in_shown_order(pairs: pa.Table, swapped: Sequence[bool]) -> pa.Table:
    """swapped: of each row, whether its responses change places, and its label with them."""
    if not any(swapped):
        return pairs
    mask = pa.array(swapped)
    columns = {
        "response_1": pc.if_else(mask, pairs["response_2"], pairs["response_1"]),
        "response_2": pc.if_else(mask, pairs["response_1"], pairs["response_2"]),
        "label": pc.if_else(mask, pc.subtract(3, pairs["label"].cast(pa.int8())), pairs["label"]),
    }
    for name, column in columns.items():
        at = pairs.schema.get_field_index(name)
        if at >= 0:
            pairs = pairs.set_column(at, pairs.schema.field(name), column.cast(pairs.schema.field(name).type))
    return pairs
