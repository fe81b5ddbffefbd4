"""The drawing of an ablation's trainings: every value of every training, on axes that panels of a column share."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from proxygrm.report.trainings import draw_trainings

SVG = "{http://www.w3.org/2000/svg}"
LOSS = {"loss": "actor/pg_loss", "missing": "nowhere"}


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"step": step, "actor/pg_loss": loss} for step, loss in enumerate(losses)]


def marks(svg: str) -> dict[str, tuple[float, float]]:
    """Place of each mark by its title."""
    dots = ET.fromstring(svg).iter(f"{SVG}circle")
    return {str(dot[0].text): (float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in dots}


def test_every_training_has_a_curve_and_a_figure_that_none_has_no_column() -> None:
    svg = draw_trainings("a < b", {"one": [rows(0.0, 1.0), rows(0.5)], "two <&>": [rows(0.25, -1.0)]}, LOSS)
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == "a < b"
    assert len(list(root.iter(f"{SVG}polyline"))) == 3
    assert set(marks(svg)) == {"step 0: 0", "step 1: 1", "step 0: 0.5", "step 0: 0.25", "step 1: -1"}
    texts = [str(each.text) for each in root.iter(f"{SVG}text")]
    assert "two <&>" in texts
    assert "missing" not in texts
    assert "training 2" in texts


def test_panels_of_a_column_share_their_axes() -> None:
    found = marks(draw_trainings("t", {"one": [rows(0.0, 1.0)], "two": [rows(0.75, 0.25, 0.5)]}, LOSS))
    high, low = found["step 0: 0.75"][1], found["step 1: 0.25"][1]
    assert low - high == (found["step 0: 0"][1] - found["step 1: 1"][1]) / 2, "half of the axis, in either panel"
    assert found["step 1: 1"][0] == found["step 1: 0.25"][0], "the same step stands in the same place"


def test_without_values_nothing_is_drawn() -> None:
    assert draw_trainings("t", {"one": [[{"step": 1}]], "two": []}, LOSS) == ""
