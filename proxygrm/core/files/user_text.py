"""Text files that users may have written or edited: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from proxygrm.core.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # of UTF-32 too
_BINARY = {
    b"PAR1": "a parquet file, and text is read here; write it as JSONL: "
    "`pandas.read_parquet(FILE).to_json(OUT, orient='records', lines=True)`",
    b"\x1f\x8b": "compressed by gzip; unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first (unzstd)",
    b"BZh": "compressed by bzip2; unpack it first (bunzip2)",
    b"\xfd7zX": "compressed by xz; unpack it first (unxz)",
    b"\xd0\xcf\x11\xe0": "an old Excel file, or one with a password; save it as .xlsx without one",
    b"PK\x03\x04": "a zip archive; unpack it first (unzip)",
}


def read_user_text(path: Path) -> str:
    """The text. Raises UserError (file.not-utf8, file.not-text) for a file in another encoding, and OSError."""
    data = path.read_bytes()
    check_encoding(data[:4], path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 (line {line}, byte {error.start}: 0x{data[error.start]:02x}); save it as UTF-8",
            code="file.not-utf8",
            path=path,
            line=line,
            offset=error.start,
        ) from None


def check_first_line(line: bytes, path: Path) -> None:
    """Raise UserError (file.json-list, file.not-text) when the first line shows that a file is not JSONL."""
    check_encoding(line[:4], path)
    text = line.removeprefix(codecs.BOM_UTF8).strip()
    if text == b"[" or text.startswith(b"[{"):
        raise UserError(
            f"{path} is one JSON list; give JSONL, one object per line: `jq -c '.[]' FILE` writes it",
            code="file.json-list",
            path=path,
        )


def check_encoding(start: bytes, path: Path) -> None:
    """Raise UserError (file.not-text) for the first bytes of UTF-16 or UTF-32, parquet or an archive."""
    if magic := next((magic for magic in _BINARY if start.startswith(magic)), None):
        raise UserError(f"{path} is {_BINARY[magic]}", code="file.not-text", path=path)
    if start.startswith(_UTF16) or b"\0" in start[:4]:
        raise UserError(
            f"{path} is in UTF-16 or UTF-32, or is not text; save it as UTF-8", code="file.not-text", path=path
        )
