"""Numbers of bytes as people read them."""

from __future__ import annotations


def readable(size: float) -> str:
    """ "0 B", "12 MB", "1.5 TB": powers of 1000, as disks are sold and `df -H` counts."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if size >= 9.95 or unit == "B" else f"{size:.1f} {unit}"
