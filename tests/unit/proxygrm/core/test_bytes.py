"""Numbers of bytes as people read them."""

from __future__ import annotations

import pytest

from proxygrm.core.bytes import readable


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9951, "10 kB"), (999_400, "999 kB"),
     (999_600, "1.0 MB"), (15_400_000_000, "15 GB"), (2.5e12, "2.5 TB"), (4e15, "4000 TB")],
)  # fmt: skip
def test_they_have_a_unit_and_two_figures_or_more(size: float, text: str) -> None:
    assert readable(size) == text
