"""A reward function of the user's own: what is refused before a job, what is counted in it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.runtime import own_python
from proxygrm.rewards.base import Rating, Rollout
from proxygrm.rewards.function import Function, load
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.reward_fn import compute_score
from proxygrm.rl.plugins.step_rollouts import step_metrics, why_stop
from support.refusals import refused

EXAMPLE = Path(__file__).parents[4] / "docs" / "examples" / "short_and_right.py"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def rated(path: Path, text: str = "a b", label: Any = "1", **options: Any) -> Rating:
    rollout = Rollout(text, label, {"level": 3}, {"judge": ("http://n1:8000",)}, {"judge": "secret"})

    async def ask(sent: Any) -> Any:
        raise AssertionError("a function has its own calls")

    return asyncio.run(Function(str(path), **options).rate(rollout, text, ask))


def scored(path: Path, texts: list[str], **options: Any) -> list[dict[str, Any]]:
    """Rows as the trainer's sampler has them."""
    file = RewardOptions("r", "s", 2, reward=Function(str(path), **options)).write(path.parent / "options.json")

    async def all_of_them() -> list[dict[str, Any]]:
        return [await compute_score("own", text, 7, {"id": "x"}, options=str(file)) for text in texts]

    rows = asyncio.run(all_of_them())
    return [{**row, "group": "g", "numbers": json.loads(row["numbers"])} for row in rows]


@pytest.mark.parametrize("how", ["def", "async def"])
def test_a_function_sees_the_row_and_the_servers(tmp_path: Path, how: str) -> None:
    path = written(
        tmp_path,
        f"{how} points(rollout):\n"
        "    assert rollout.services == {'judge': ('http://n1:8000',)} and rollout.service_keys['judge'] == 'secret'\n"
        "    return {'score': len(rollout.text), 'level': rollout.extra_info['level'], 'right': rollout.label == 1}\n",
    )
    assert rated(path, "abcd", 1, name="points") == Rating(4.0, {"level": 3.0, "right": 1.0})


def test_numbers_of_numpy_and_awaitables_of_plain_functions_are_taken(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "import numpy as np\n"
        "async def later(value):\n    return value\n"
        "def score(rollout):\n    return later(np.float32(0.5))\n",
    )
    assert rated(path) == Rating(0.5)


def test_the_example_of_the_documentation_rewards_what_is_short_and_right() -> None:
    long = "word " * 100 + "<answer>7</answer>"
    good, slow, wrong = (rated(EXAMPLE, text, 7) for text in ("<answer>7</answer>", long, "<answer>8</answer>"))
    assert good == Rating(1.0, {"right": 1.0, "too_many_words": 0.0})
    assert slow == Rating(pytest.approx(0.79), {"right": 1.0, "too_many_words": 21.0})
    assert wrong.score == 0.0
    page = (EXAMPLE.parents[1] / "rewards.md").read_text()
    body = EXAMPLE.read_text().split("def score")[1].splitlines()[2:]
    assert all(line in page for line in body), "the page shows the example as it is"


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        ("import re\n\ndef score(rollout)\n", "reward.does-not-import", {"line": 3}),
        ("\nimport no_such_package\n", "reward.does-not-import", {"line": 2}),
        ("x = 1\nraise SystemExit('stop')\n", "reward.does-not-import", {"line": 2}),
        ("def scores(rollout): ...\n", "reward.no-function", {"name": "score", "known": ["scores"]}),
        ("score = 3\n", "reward.no-function", {"known": []}),
        ("\n\ndef score(text, label): ...\n", "reward.wrong-arguments", {"line": 3, "name": "score"}),
        ("def score(): ...\n", "reward.wrong-arguments", {"line": 1}),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, text: str, code: str, values: dict[str, Any]
) -> None:
    path = written(tmp_path, text)
    with refused(code, path=str(path), **values) as caught:
        Function("").check_input(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_is_tried_in_a_python_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(
        tmp_path,
        "import os, threading, time\nos.environ['MINE'] = '1'\nprint('null')\n"
        "threading.Thread(target=time.sleep, args=(250,)).start()\ndef score(rollout): ...\n",
    )
    before = time.monotonic()
    Function("").check_input(path)
    assert time.monotonic() - before < 200, "its thread is not waited for"
    assert "MINE" not in os.environ
    path.write_text("import os\nos._exit(7)\n")
    with refused("reward.does-not-import", path=str(path), line=1) as caught:
        Function("").check_input(path)
    assert "ended Python with exit code 7" in str(caught.value)
    path.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(own_python, "LIMIT_S", 0.5)
    with refused("reward.does-not-import", path=str(path)) as caught:
        Function("").check_input(path)
    assert "does not end within 0.5 s" in str(caught.value)


def test_a_missing_file_and_one_that_is_not_text_are_refused(tmp_path: Path) -> None:
    with refused("reward.no-file", path=tmp_path / "none.py"):
        load(tmp_path / "none.py", "score")
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xff\xfe\x00")
    with refused("file.not-text", path=path):
        load(path, "score")


def test_code_that_others_may_write_does_not_run(tmp_path: Path) -> None:
    path = written(tmp_path, "raise SystemExit('it ran')\n")
    path.chmod(0o664)
    with refused("reward.foreign-file", path=path) as caught:
        load(path, "score")
    assert "may be written by others" in str(caught.value)
    path.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
        with refused("reward.foreign-file", path=path):
            load(path, "score")


def test_a_planted_compiled_copy_is_not_used_and_what_a_file_prints_is_not_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import py_compile

    path = written(tmp_path, "def score(rollout): return 9.0\n")
    py_compile.compile(str(path))
    was = path.stat()
    path.write_text("print('hi'); score = lambda rollout: 1.0\n".ljust(was.st_size - 1) + "\n")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert rated(path) == Rating(1.0)
    assert capsys.readouterr() == ("", "hi\n")


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise ValueError('no')", "error_ValueError"),
        ("raise SystemExit(3)", "error_SystemExit"),
        ("raise StopIteration", "error_RuntimeError"),
        ("return float('nan')", "error_NotFinite"),
        ("return {'score': 1, 'part': float('inf')}", "error_NotFinite"),
        ("return None", "error_NotANumber"),
        ("return '1.0'", "error_NotANumber"),
        ("return {'score': 1, 'part': [2]}", "error_NotANumber"),
        ("return {'scores': 1}", "error_NoScore"),
        ("return {}", "error_NoScore"),
        ("return {'score': 1, 'a b\\n': 2}", "error_BadName"),
        ("return {'score': 1, 3: 2}", "error_BadName"),
        ("return 10 ** 400", "error_OverflowError"),
    ],
)
@pytest.mark.parametrize("how", ["def", "async def"])
def test_what_is_no_number_is_unscored_and_counted_by_name(tmp_path: Path, how: str, body: str, cause: str) -> None:
    path = written(tmp_path, f"{how} score(rollout):\n    {body}\n")
    (row,) = scored(path, ["text"])
    assert (row["unscored"], row["problem"], row["score"]) == (1.0, cause, 0.0)


@pytest.mark.parametrize(
    "wait", ["def score(rollout):\n    time.sleep(10)", "async def score(rollout):\n    await asyncio.sleep(60)"]
)
def test_a_call_that_does_not_end_is_left(tmp_path: Path, wait: str) -> None:
    path = written(tmp_path, f"import asyncio, time\n{wait}\n")
    before = time.monotonic()
    assert scored(path, ["text"], timeout_s=0.1)[0]["problem"] == "error_TimeoutError"
    assert time.monotonic() - before < 8


def test_plain_functions_run_side_by_side_and_async_ones_in_the_workers_loop(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "import threading\nmet = threading.Barrier(4)\n"
        "def score(rollout):\n    met.wait(60)\n    return threading.get_ident()\n"
        "async def here(rollout):\n    return threading.get_ident()\n",
    )

    async def together() -> list[Rating]:
        function = Function(str(path))
        return await asyncio.gather(*(function.rate(Rollout("t", 1), "t", None) for _ in range(4)))  # type: ignore[arg-type]

    assert len({one.score for one in asyncio.run(together())}) == 4
    assert rated(path, name="here").score == float(threading.get_ident())


def test_a_step_is_summed_up_by_the_function_s_own_numbers_and_stops_beyond_the_limit(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "def score(rollout):\n    if rollout.text == 'bad':\n        raise LookupError\n"
        "    return {'score': 2, 'words': len(rollout.text.split())} if ' ' in rollout.text else 1\n",
    )
    rows = scored(path, ["a b c", "a b", "a", "bad"])
    assert {key for row in rows for key in row} == {
        "score", "unscored", "problem", "numbers", "id", "label", "response", "group"
    }  # fmt: skip
    assert (rows[0]["response"], rows[0]["label"]) == ("a b c", "7")
    metrics = step_metrics(rows, 4, Function())
    assert {name: metrics[name] for name in ("reward/score_mean", "reward/part/words", "reward/unscored")} == {
        "reward/score_mean": pytest.approx(5 / 3),
        "reward/part/words": 2.5,
        "reward/unscored": 0.25,
    }
    assert metrics["reward/unscored_by/error_LookupError"] == 1
    assert not [name for name in metrics if "proxy" in name or "accuracy" in name]
    reason = why_stop(rows, 4, max_unscored=0.02, max_no_verdict=1.0)
    assert "1 of 4 rollouts have lost their reward (1 error_LookupError); the limit is 2% (max_unscored)" in reason
    assert "trainer.log has the first error of each kind with its traceback" in reason


def test_urls_reach_the_function_by_the_options_and_keys_by_a_private_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "def score(rollout):\n"
        "    assert rollout.services == {'judge': ('http://n1:8000', 'http://n2:8000')}\n"
        "    return {'k1': 1.0}[rollout.service_keys['judge']]\n",
    )
    key = tmp_path / "judge.key"
    key.write_text("k1\n")
    key.chmod(0o600)
    options = RewardOptions(
        "r",
        "s",
        2,
        reward=Function(str(path)),
        services={"judge": ["http://n1:8000", "http://n2:8000"]},
        service_keys={"judge": str(key)},
    ).write(tmp_path / "options.json")
    assert "k1" not in options.read_text()
    row = asyncio.run(compute_score("own", "t", 1, {}, options=str(options)))
    assert (row["score"], row["problem"]) == (1.0, "")
