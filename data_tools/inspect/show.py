"""Shows rows on an HTML page: texts, label, problems, and embedded thumbnails of the images."""

from __future__ import annotations

import base64
import io
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.inspect.inspected_rows import InspectedRow, require_rows, rows_of
from data_tools.inspect.kinds import kind_of
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import UnreadableImage, examine, image_of, pixels

THUMBNAIL_SIDE = 280  # pixels
_MAX_CHARS = 20_000  # of one text


def show(path: Path, out: Path, rows: int = 12, first: int = 1, images_root: Path | None = None) -> int:
    """Write a page with `rows` rows, starting at row `first` (from 1); returns how many there are.

    Raises UserError if the file is unknown or damaged, has no such rows, or the page cannot be written.
    """
    from proxygrm.report.shell import page_environment, write_page

    kind, files = kind_of(path, images_root)
    selected = list(islice(rows_of(path, kind, files, images_root), first - 1, first - 1 + rows))
    if first > 1 and not selected:
        raise UserError(f"{path} has fewer than {first} rows", code="data.no-rows", path=path, first=first)
    require_rows(path, kind, len(selected))
    page = page_environment().get_template("data_rows.html")
    cards = [_card(row) for row in selected]
    write_page(page.render(name=path.name or str(path), path=str(path), kind=kind.title, rows=cards), out)
    return len(selected)


def _card(row: InspectedRow) -> dict[str, Any]:
    texts = []
    for name, text in row.texts.items():
        better = name == "chosen" or (row.label is not None and name == f"response_{row.label}")
        cut = f"\n[... {len(text) - _MAX_CHARS:,} more characters]" if len(text) > _MAX_CHARS else ""
        texts.append({"name": name.replace("_", " "), "text": text[:_MAX_CHARS] + cut, "better": better})
    return {
        "number": row.number, "id": row.id, "file": row.file, "source": row.source, "label": row.label,
        "lead": [text for text in texts if text["name"] in ("system", "user", "question", "rubric")],
        "others": [text for text in texts if text["name"] not in ("system", "user", "question", "rubric")],
        "problems": [f"{reason.replace('_', ' ')}{': ' * bool(detail)}{detail}" for reason, detail in row.problems],
        "remarks": [remark.replace("_", " ") for remark in row.remarks],
        "images": [thumbnail(image) for image in row.images],
    }  # fmt: skip


def thumbnail(image: bytes | Path) -> dict[str, str]:
    """{"data": a data: URL, "size"} of the image as consumers see it; for an unreadable one, "data" is empty and "size"
    is the reason."""
    try:
        data = image if isinstance(image, bytes) else image_of(image)
        look, image_pixels = examine(data, decode=False), pixels(data)
    except UnreadableImage as error:
        return {"data": "", "size": str(error)[:200]}
    image_pixels.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    out = io.BytesIO()
    image_pixels.save(out, "JPEG", quality=85)
    size = f"{look.width} x {look.height} {look.kind}"
    return {"data": f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}", "size": size}
