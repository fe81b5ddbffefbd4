"""Solutions in steps of two policies, judged by the demo's rule-based process model over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointCalls
from proxygrm.evaluate.policy.figures import Answered, Judged, figures
from proxygrm.evaluate.policy.steps import judge_solutions
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.process.aggregate import aggregate
from support.evaluate.http_judges import serving
from support.evaluate.solutions import Service, drawn_rows

pytestmark = pytest.mark.slow


def test_each_policy_s_solutions_are_scored_and_compared_with_the_first_ones(tmp_path: Path) -> None:
    rows = drawn_rows(tmp_path, 5)
    for response in ("vlmresponse1", "vlmresponse2"):
        rows[1][response]["reasoningprocess"][1]["steptext"] = "Hm."
    questions = [{"question": row["question"], "images": [str(tmp_path / row["image"])]} for row in rows]
    right, wrong = ([json.dumps(row[f"vlmresponse{n}"]) for row in rows] for n in (1, 2))
    texts = {"start": [*wrong[:2], right[2], "three", " "], "rl": [right[0], wrong[1], wrong[2], wrong[3], "three"]}
    describing = Service()
    service = Service(edit=lambda text: "I think so" if "Step 2: Hm." in text else None)

    def judged(*urls: str) -> dict[str, list[Judged]]:
        judge, extractor = (EndpointCalls(Endpoint(each, "rule-process", 4, 20.0), EvaluateSettings()) for each in urls)
        helpers = {"extractor": extractor}
        return judge_solutions(questions, texts, judge, helpers, 64, tmp_path / "raw", lambda *_: None)

    with serving(service) as url, serving(describing) as other:
        found = judged(url, other)
        calls = service.calls
        assert judged(url, other) == found
        assert len(describing.texts) == 5
        assert not any(text.startswith("Describ") for text in service.texts)
        assert service.calls == calls, "from the answers that were kept"
    low = aggregate("mean", [-1.0, -1.0])
    assert found["start"] == [
        Judged(score=low),
        Judged(cause="unreadable"),
        Judged(score=1.0),
        Judged(cause="no_steps"),
        Judged(cause="empty"),
    ]
    assert found["rl"] == [
        Judged(1.0, 1.0),
        Judged(cause="unreadable"),
        Judged(0.0, low),
        Judged(1.0, low),
        Judged(0.5, cause="no_steps"),
    ]
    before, after = (
        [Answered(f"q{n}", texts[tag][n], None, judged={"prm": each}) for n, each in enumerate(found[tag])]
        for tag in texts
    )
    shown = figures(after, before)
    assert (shown["prm_unjudged"], shown["prm_wins"]) == (1, 0.625)
    assert shown["prm_causes"] == {"no_steps": 1, "unreadable": 1}
