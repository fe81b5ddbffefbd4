"""The first sheet of an .xlsx file as rows of text and numbers, by the standard library: a zip of XML (ECMA-376)."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from proxygrm.core.errors import UserError

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINK = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_LARGEST = 1 << 30  # bytes of one part, unpacked
_COLUMNS = 1 << 14  # of a sheet
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, ElementTree.ParseError, KeyError, IndexError, ValueError, OverflowError,
    RuntimeError,  # an encrypted part, or one that is compressed in another way
)  # fmt: skip
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_NOT_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]|_(?=x[0-9A-Fa-f]{4}_)")


def read_sheet(path: Path) -> Iterator[list[Any]]:
    """The rows of the first sheet, empty cells as None. UserError for a file that is not an .xlsx."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = _shared_texts(archive)
            for row in _part(archive, _first_sheet(archive)).iter(f"{{{_MAIN}}}row"):
                yield _cells(row, texts)
    except _DAMAGED as error:
        raise UserError(
            f"{path} is not a complete .xlsx file ({error}); save it again", code="file.damaged", path=path
        ) from error


def _part(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > _LARGEST:
        raise ValueError(f"{name} is larger than {_LARGEST >> 30} GB")
    text = archive.read(name).decode("utf-8-sig")
    if "<!DOCTYPE" in text:  # no entities without one
        raise ValueError(f"{name} has a document type, which sheets do not have")
    return ElementTree.fromstring(text)  # noqa: S314


def _first_sheet(archive: zipfile.ZipFile) -> str:
    sheets = list(_part(archive, "xl/workbook.xml").iter(f"{{{_MAIN}}}sheet"))
    link = sheets[0].attrib[f"{{{_LINK}}}id"]
    targets = {
        relation.attrib["Id"]: relation.attrib["Target"]
        for relation in _part(archive, "xl/_rels/workbook.xml.rels").iter(f"{{{_PACKAGE}}}Relationship")
    }
    target = targets[link]
    return target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(item) for item in _part(archive, "xl/sharedStrings.xml").iter(f"{{{_MAIN}}}si")]


def _text(item: ElementTree.Element) -> str:
    text = "".join(part.text or "" for part in item.iter(f"{{{_MAIN}}}t"))
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def _cells(row: ElementTree.Element, texts: Sequence[str]) -> list[Any]:
    cells: list[Any] = []
    for cell in row.iter(f"{{{_MAIN}}}c"):
        at = _column(cell.attrib["r"]) if "r" in cell.attrib else len(cells)
        if not 0 <= at < _COLUMNS:
            raise ValueError(f"it has a cell {cell.attrib['r']!r}")
        cells += [None] * (at + 1 - len(cells))
        cells[at] = _value(cell, texts)
    return cells


def _column(reference: str) -> int:
    """ "B7" -> 1."""
    number = 0
    for letter in reference.rstrip("0123456789"):
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _value(cell: ElementTree.Element, texts: Sequence[str]) -> Any:
    kind, value = cell.attrib.get("t", "n"), cell.findtext(f"{{{_MAIN}}}v")
    if kind == "inlineStr":
        return _text(cell)
    if value is None:
        return None
    if kind == "s":
        return texts[int(value)]
    if kind == "b":
        return value == "1"
    if kind == "n":
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


def write_sheet(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """One sheet; texts are inline, None is an empty cell."""
    body = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
        "_rels/.rels": _relation("officeDocument", "xl/workbook.xml"),
        "xl/_rels/workbook.xml.rels": _relation("worksheet", "worksheets/sheet1.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINK}"><sheets>'
        '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}')


def _relation(kind: str, target: str) -> str:
    relation = f'<Relationship Id="rId1" Type={quoteattr(f"{_LINK}/{kind}")} Target={quoteattr(target)}/>'
    return f'<Relationships xmlns="{_PACKAGE}">{relation}</Relationships>'


def _cell(value: Any) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    text = _NOT_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", str(value))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(text)}</t></is></c>'
