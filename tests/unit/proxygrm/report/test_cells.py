"""Drawings of an ablation's cells: every figure is there, within the drawing, and texts are escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from proxygrm.report.cells import HEIGHT, WIDTH, Point, draw_cells, draw_curves

SVG = "{http://www.w3.org/2000/svg}"


def marks(svg: str) -> list[tuple[float, float, str]]:
    """Place and title of each mark."""
    root = ET.fromstring(svg)
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"]), str(dot[0].text)) for dot in root.iter(f"{SVG}circle")]


def test_curves_run_from_left_to_right_and_higher_values_stand_higher() -> None:
    curves = {
        "drop": [Point("a", 0.9, 0.8, 1.0, 0.0), Point("c", 0.3, 0.2, 0.4, 1.0), Point("b", 0.6, 0.5, 0.7, 0.4)],
        "flip <&>": [Point("a", 0.9, 0.8, 1.0, 0.0), Point("d", 0.5, 0.4, 0.6, 1.0)],
    }
    svg = draw_curves("of < these", "ratio", curves)
    found = marks(svg)
    assert [title.split(":")[0] for _, _, title in found] == ["a", "b", "c", "a", "d"]
    xs, ys = [x for x, _, _ in found[:3]], [y for _, y, _ in found[:3]]
    assert xs == sorted(xs)
    assert ys == sorted(ys)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y, _ in found)
    assert found[1][2] == "b: 60.0 % (50.0 to 70.0)"
    assert re.findall(r">(-?[\d.]+ %)<", svg) == ["20 %", "60 %", "100 %"]


def test_cells_have_a_line_each_with_a_mark_for_every_figure() -> None:
    figures = {
        "macro f1": [Point("baseline", 0.5, 0.4, 0.6), Point("other", 0.7, 0.6, 0.8)],
        "f1 correct": [Point("other", 0.9, 0.9, 0.9)],
    }
    svg = draw_cells("title", figures)
    found = marks(svg)
    assert len(found) == 3
    assert found[0][1] < found[1][1] < found[2][1] + 20
    assert found[0][0] < found[1][0] < found[2][0]
    assert "baseline" in svg
    assert len(marks(draw_cells("one value", {"f": [Point("a", 0.5, 0.5, 0.5)]}))) == 1  # an axis without length
