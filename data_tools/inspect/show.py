"""A few rows as one HTML page: texts, label, problems, and the pictures as thumbnails inside it."""

from __future__ import annotations

import base64
import io
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.inspect.kinds import kind_of
from data_tools.inspect.seen import Seen, require_rows, rows_of
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import UnreadableImage, examine, image_of, pixels

SIDE = 280  # of a thumbnail, pixels
_TEXT = 20_000  # characters shown of one text


def show(path: Path, out: Path, rows: int = 12, first: int = 1, images_root: Path | None = None) -> int:
    """Write the page with `rows` rows from row `first` on (from 1); returns how many there were.

    Raises UserError when the file is unknown or damaged, has no such rows, or the page cannot be written.
    """
    from proxygrm.report.shell import page_environment, write_page

    kind, files = kind_of(path)
    seen = list(islice(rows_of(path, kind, files, images_root), first - 1, first - 1 + rows))
    if first > 1 and not seen:
        raise UserError(f"{path} has fewer than {first} rows")
    require_rows(path, kind, len(seen))
    page = page_environment().get_template("data_rows.html")
    shown = [_shown(row) for row in seen]
    write_page(page.render(name=path.name or str(path), path=str(path), kind=kind.title, rows=shown), out)
    return len(seen)


def _shown(row: Seen) -> dict[str, Any]:
    texts = []
    for name, text in row.texts.items():
        better = name == "chosen" or (row.label is not None and name == f"response_{row.label}")
        cut = f"\n[... {len(text) - _TEXT:,} more characters]" if len(text) > _TEXT else ""
        texts.append({"name": name.replace("_", " "), "text": text[:_TEXT] + cut, "better": better})
    return {
        "number": row.number, "id": row.id, "file": row.file, "source": row.source, "label": row.label,
        "lead": [text for text in texts if text["name"] in ("system", "user", "question", "rubric")],
        "others": [text for text in texts if text["name"] not in ("system", "user", "question", "rubric")],
        "problems": [f"{reason.replace('_', ' ')}{': ' * bool(detail)}{detail}" for reason, detail in row.problems],
        "remarks": [remark.replace("_", " ") for remark in row.remarks],
        "pictures": [thumbnail(picture) for picture in row.pictures],
    }  # fmt: skip


def thumbnail(picture: bytes | Path) -> dict[str, str]:
    """{"data": a data: address, "size"}, of the image as consumers see it; without data, "size" says why there is
    none."""
    try:
        data = picture if isinstance(picture, bytes) else image_of(picture)
        look, shown = examine(data, decode=False), pixels(data)
    except UnreadableImage as error:
        return {"data": "", "size": str(error)[:200]}
    shown.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=85)
    size = f"{look.width} x {look.height} {look.kind}"
    return {"data": f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}", "size": size}
