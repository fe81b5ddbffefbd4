"""How the agreement of two proxies is counted."""

from __future__ import annotations

import pytest

from proxygrm.evaluate.agreement.figures import Judged, Opinion, agreement_figures


def opinions(*cells):
    """(pair, label, a's verdict, b's verdict) each; 0 stands for no verdict."""

    def opinion(verdict):
        return Opinion(verdict or None, cause="" if verdict else "unparsed")

    return [Judged(str(pair), label, opinion(a), opinion(b)) for pair, label, a, b in cells]


def test_agreement_and_kappa_are_those_of_a_known_table():
    cells = [(0, 1, 1, 1)] * 20 + [(0, 1, 1, 2)] * 5 + [(0, 1, 2, 1)] * 10 + [(0, 1, 2, 2)] * 15
    found = agreement_figures(opinions(*((number, *cell[1:]) for number, cell in enumerate(cells))))
    assert found["verdicts"] == {"1,1": 20, "1,2": 5, "2,1": 10, "2,2": 15}
    assert found["same"]["share"] == pytest.approx(0.7)
    assert found["kappa"] == pytest.approx(0.4)  # the textbook's table
    assert 0.56 < found["same"]["low"] < 0.57
    assert 0.80 < found["same"]["high"] < 0.81
    assert (found["mcnemar"]["only_a"], found["mcnemar"]["only_b"]) == (5, 10)
    assert found["mcnemar"]["p"] == pytest.approx(0.3018, abs=1e-4)
    assert (found["a"]["right"]["share"], found["b"]["right"]["share"]) == (0.5, 0.6)


def test_rows_without_a_verdict_are_counted_by_cause_and_never_as_agreement():
    found = agreement_figures(opinions((1, 1, 1, 1), (2, 2, 0, 2), (3, 1, 0, 0), (4, 2, 2, 0)))
    assert (found["rows"], found["both"], found["same"]["of"]) == (4, 1, 1)
    assert (found["same"]["share"], found["same_all"]) == (1.0, 0.25)
    assert (found["a"]["scored"], found["a"]["unscored"]) == (2, {"unparsed": 2})
    assert found["kappa"] is None  # both say the same word only: chance explains everything


def test_without_judgements_there_are_no_shares_and_no_division_by_zero():
    for rows in ([], opinions((1, 1, 0, 0))):
        found = agreement_figures(rows)
        assert (found["same"]["share"], found["kappa"], found["a"]["brier"]) == (None, None, None)
        assert found["mcnemar"]["p"] == 1


def test_eight_rollouts_of_one_pair_are_one_trial():
    once, often = agreement_figures(opinions((1, 1, 1, 2))), agreement_figures(opinions(*[(1, 1, 1, 2)] * 8))
    assert often["mcnemar"] == once["mcnemar"] == {"only_a": 1, "only_b": 0, "p": 1.0}
    assert (often["same"]["low"], often["same"]["high"]) == (once["same"]["low"], once["same"]["high"])


def test_the_brier_score_is_of_the_label_and_of_soft_verdicts_alone():
    rows = [Judged("1", 1, Opinion(1, 0.9), Opinion(1)), Judged("2", 2, Opinion(1, 0.6), Opinion(2))]
    found = agreement_figures(rows)
    assert found["a"]["brier"] == pytest.approx((0.01 + 0.36) / 2)
    assert found["b"]["brier"] is None
