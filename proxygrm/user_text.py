"""Text files that a person may have written or edited: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from proxygrm.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # of UTF-32 too


def read_user_text(path: Path) -> str:
    """UserError, in one line, for a file in another encoding; raises OSError."""
    data = path.read_bytes()
    check_encoding(data[:4], path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 (line {line}, byte {error.start}: 0x{data[error.start]:02x}); save it as "
                        "UTF-8") from None  # fmt: skip


def check_encoding(start: bytes, path: Path) -> None:
    """UserError when a text file's first bytes are those of UTF-16 or UTF-32."""
    if start.startswith(_UTF16) or b"\0" in start[:4]:
        raise UserError(f"{path} is in UTF-16 or UTF-32, or is no text; save it as UTF-8")
