from __future__ import annotations

import json

from data_tools.steps.account import Account, RowLocation
from proxygrm.core.files.whole_file import write_json
from support.refusals import refused

HERE = RowLocation("a file.jsonl", 7)


def test_every_excluded_row_is_logged_with_its_location_and_reason(tmp_path):
    with Account(tmp_path / "dropped.jsonl", max_bad=0.5) as account:
        account.read, account.kept = 3, 1
        account.exclude(HERE, 'x"\n', "empty_question", bad=True, detail="ü")
        account.exclude(RowLocation("b", 1), "y", "tie", bad=False)
    rows = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "file": "a file.jsonl", "row": 7, "id": 'x"\n', "reason": "empty_question", "bad": True, "detail": "ü",
    }  # fmt: skip
    assert [row["bad"] for row in rows] == [True, False]
    assert account.summary() == {"read": 3, "kept": 1, "bad": {"empty_question": 1}, "dropped": {"tie": 1}, "notes": {}}


def one_bad_row(log, max_bad):
    with Account(log, max_bad) as account:
        account.read = 99
        account.exclude(HERE, "x", "no_text", bad=True)


def test_too_many_bad_rows_are_an_error_and_are_listed_in_another_file_until_they_are_fixed(tmp_path):
    log, refused_log = tmp_path / "dropped.jsonl", tmp_path / "dropped.refused.jsonl"
    first = "a file.jsonl row 7 (x): no_text"
    with refused("data.too-many-bad-rows", bad=1, read=99, reasons={"no_text": 1}, first=first, log=refused_log):
        one_bad_row(log, 0.01)
    assert list(tmp_path.iterdir()) == [refused_log]
    assert [json.loads(line)["id"] for line in refused_log.read_text().splitlines()] == ["x"]
    one_bad_row(log, 0.02)
    assert list(tmp_path.iterdir()) == [log]


def test_exactly_max_bad_is_allowed_and_dropped_rows_do_not_count(tmp_path):
    with Account(tmp_path / "dropped.jsonl", max_bad=0.01) as account:
        account.read = 100
        account.exclude(HERE, "x", "no_text", bad=True)
        for i in range(50):
            account.exclude(HERE, str(i), "tie", bad=False)


def test_counts_and_logs_of_shards_are_added_up(tmp_path):
    for name, reason in (("a", "no_text"), ("b", "not_json")):
        with Account(tmp_path / f"{name}.jsonl", max_bad=1) as account:
            account.read, account.kept = 10, 9
            account.exclude(RowLocation(name, 3), name, reason, bad=True)
        write_json(tmp_path / f"{name}.json", account.summary())
    with Account(tmp_path / "all.jsonl", max_bad=1) as total:
        for name in "ab":
            total.absorb(tmp_path / f"{name}.json", tmp_path / f"{name}.jsonl")
    assert total.summary() == {
        "read": 20, "kept": 18, "bad": {"no_text": 1, "not_json": 1}, "dropped": {}, "notes": {}
    }  # fmt: skip
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2
    with Account(tmp_path / "x.jsonl", max_bad=1) as again:
        again.absorb(tmp_path / "a.json", tmp_path / "a.jsonl")
        again.max_bad = 0.01
        with refused("data.too-many-bad-rows", first="a row 3 (a): no_text"):
            again.check()
        again.max_bad = 1
