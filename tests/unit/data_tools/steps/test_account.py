from __future__ import annotations

import json

import pytest

from data_tools.steps.account import Account, Where, add_up
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json

HERE = Where("a file.jsonl", 7)


def test_every_row_that_leaves_is_on_a_line_with_its_place_and_reason(tmp_path):
    with Account(tmp_path / "dropped.jsonl", max_bad=0.5) as account:
        account.read, account.kept = 3, 1
        account.leave(HERE, 'x"\n', "empty_question", bad=True, detail="ü")
        account.leave(Where("b", 1), "y", "tie", bad=False)
    rows = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "file": "a file.jsonl", "row": 7, "id": 'x"\n', "reason": "empty_question", "bad": True, "detail": "ü",
    }  # fmt: skip
    assert [row["bad"] for row in rows] == [True, False]
    assert account.summary() == {"read": 3, "kept": 1, "bad": {"empty_question": 1}, "dropped": {"tie": 1}, "notes": {}}


def one_bad_row(log, max_bad):
    with Account(log, max_bad) as account:
        account.read = 99
        account.leave(HERE, "x", "no_text", bad=True)


def test_too_many_bad_rows_are_an_error_and_all_are_named_beside_until_it_is_mended(tmp_path):
    log, refused = tmp_path / "dropped.jsonl", tmp_path / "dropped.refused.jsonl"
    with pytest.raises(UserError, match=r"1 of 99 rows are bad.*a file.jsonl row 7 \(x\): no_text.*dropped.refused"):
        one_bad_row(log, 0.01)
    assert list(tmp_path.iterdir()) == [refused]
    assert [json.loads(line)["id"] for line in refused.read_text().splitlines()] == ["x"]
    one_bad_row(log, 0.02)
    assert list(tmp_path.iterdir()) == [log]


def test_the_limit_itself_is_still_allowed_and_dropped_rows_do_not_count(tmp_path):
    with Account(tmp_path / "dropped.jsonl", max_bad=0.01) as account:
        account.read = 100
        account.leave(HERE, "x", "no_text", bad=True)
        for i in range(50):
            account.leave(HERE, str(i), "tie", bad=False)


def test_shards_add_up_and_their_logs_are_joined(tmp_path):
    for name, reason in (("a", "no_text"), ("b", "not_json")):
        with Account(tmp_path / f"{name}.jsonl", max_bad=1) as account:
            account.read, account.kept = 10, 9
            account.leave(Where(name, 3), name, reason, bad=True)
        write_json(tmp_path / f"{name}.json", account.summary())
    with Account(tmp_path / "all.jsonl", max_bad=1) as total:
        for name in "ab":
            total.absorb(tmp_path / f"{name}.json", tmp_path / f"{name}.jsonl")
    assert total.summary() == add_up(json.loads((tmp_path / f"{n}.json").read_text()) for n in "ab")
    assert total.summary()["bad"] == {"no_text": 1, "not_json": 1}
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2
    with Account(tmp_path / "x.jsonl", max_bad=1) as again:
        again.absorb(tmp_path / "a.json", tmp_path / "a.jsonl")
        again.max_bad = 0.01
        with pytest.raises(UserError, match=r"First: a row 3"):
            again.check()
        again.max_bad = 1
