"""Row numbers, ids and reasons as words of a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_MAX_ROWS = 5
_MAX_ID_CHARS = 60


def rows_text(rows: Sequence[int]) -> str:
    """ "row 5", "rows 5, 9 and 14", "812 rows (5, 9, 14, 20, 31, ...)"."""
    if len(rows) == 1:
        return f"row {rows[0]:,}"
    if len(rows) <= _MAX_ROWS:
        return f"rows {', '.join(f'{row:,}' for row in rows[:-1])} and {rows[-1]:,}"
    return f"{len(rows):,} rows ({', '.join(f'{row:,}' for row in rows[:_MAX_ROWS])}, ...)"


def ids_text(ids: Iterable[str], most: int = 3) -> str:
    """The first few ids, each on one line however long it is: "a, b, c, ..."."""
    ids = list(ids)
    words = [
        " ".join(id_.split())[:_MAX_ID_CHARS].encode(errors="backslashreplace").decode() or repr(id_)
        for id_ in ids[:most]
    ]
    return ", ".join([*words, "..."] if len(ids) > most else words)


def reasons_text(rows_by_reason: Mapping[str, Sequence[int]]) -> str:
    """ "no id in row 2; not JSON in rows 4 and 5"."""
    return "; ".join(f"{reason} in {rows_text(rows)}" for reason, rows in rows_by_reason.items())
