"""The space that a plan forecasts."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.cli.common import plan_table
from jobs.engine.facts import gather
from jobs.engine.plan import Planned, plan
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.space import forecast as forecasts
from jobs.engine.space.amounts import Amount, Needs, Space, Unknown, measured, training
from jobs.engine.space.forecast import RECORDS, Forecast, forecast
from jobs.engine.stage import Artifact, Given, Stage, StageRun
from jobs.stages.training import merge, rl, sft
from slurm.sbatch import Resources
from support.small_checkpoints import write_checkpoint


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def double(stage: Stage, need: Needs) -> Space:
    given = need("data")
    return Space(2 * given.size, {stage.makes[0].path: Amount(2 * given.size, rows=7)})


def chain(data: Path) -> list[Stage]:
    first = Stage("first", nothing, (Artifact("a"),), Resources(), needs={"data": Given(str(data))}, disk=double)
    second = Stage("second", nothing, (Artifact("b"),), Resources(), needs={"data": first / "a"}, disk=double, array=2)
    silent = Stage("silent", nothing, (Artifact("c"),), Resources(), needs={"data": second / "b"})
    last = Stage("last", nothing, (Artifact("d"),), Resources(), needs={"data": silent / "c"}, disk=double)
    return [first, second, silent, last]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(bytes(1000))
    return path


def planned(stages: list[Stage], ledger: Ledger) -> list[Planned]:
    return plan(stages, gather(stages, ledger, ask_scheduler=False))


def sizes(found: Forecast) -> dict[str, int | None]:
    return {one.stage: one.size for one in found.stages}


def test_each_stage_says_it_by_what_those_before_it_make(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The disk is others' too: what is free on it changes while this runs.
    disks = {tmp_path: SimpleNamespace(f_bavail=7, f_bfree=8, f_frsize=4096, f_bsize=1)}
    monkeypatch.setattr(os, "statvfs", disks.__getitem__)
    found = forecast(planned(chain(data), Ledger(tmp_path / "run")), tmp_path / "run")
    assert sizes(found) == {"first": 2000 + RECORDS, "second": 4000 + 2 * RECORDS, "silent": None, "last": None}
    assert [(one.stage, one.why) for one in found.unknown] == [
        ("silent", "it does not say"), ("last", "of silent it is not known")
    ]  # fmt: skip
    assert found.size == 6000 + 3 * RECORDS
    assert found.free == 7 * 4096


def test_what_is_done_is_measured_and_takes_no_more(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), chain(data)
    ledger.prepare(stages[0], stages[0].fingerprint())
    (ledger.folder / "first" / "a").write_text("x" * 500)
    ledger.write_done(stages[0], Done("first", stages[0].fingerprint(), 0, 1.0, 2.0, "7", ["n1"], 10))
    found = forecast(planned(stages[:2], ledger), ledger.folder)
    assert sizes(found) == {"second": 1000 + 2 * RECORDS}


def test_what_an_unfinished_stage_has_already_written_counts(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), chain(data)
    ledger.prepare(stages[0], stages[0].fingerprint())
    (ledger.folder / "first" / "half").write_bytes(bytes(RECORDS))
    (size,) = [one.size for one in forecast(planned(stages[:1], ledger), ledger.folder).stages]
    assert size is not None
    assert 0 < size < 2000


def test_an_input_that_is_not_here_makes_it_unknown(tmp_path: Path) -> None:
    (first, *_) = chain(tmp_path / "gone")
    found = forecast(planned([first], Ledger(tmp_path / "run")), tmp_path / "run")
    assert [one.why for one in found.unknown] == [f"{tmp_path / 'gone'} is not here"]


def test_a_run_that_does_not_fit_is_said_so(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = planned(chain(data), Ledger(tmp_path / "run"))
    for there, fits in ((10**9, True), (10**6, False)):
        monkeypatch.setattr(forecasts, "free", lambda folder, there=there: there)
        found = forecast(lines, tmp_path / "run")
        assert found.fits is fits
        plan_table._say_space(found, Ledger(tmp_path / "run"))
        said = " ".join(capsys.readouterr().out.split())
        assert "not known of 2 of 4 stages (silent: it does not say)" in said
        assert ("does not fit" in said) is not fits


def test_a_data_folder_has_rows_and_a_checkpoint_has_parameters(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": [1, 2, 3]}), tmp_path / "pairs.parquet")
    assert measured(tmp_path).rows == measured(tmp_path / "pairs.parquet").rows == 3
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(Unknown):
        measured(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    write_checkpoint(model)
    assert measured(model).parameters == 4
    (model / "model.safetensors").write_bytes(b"\xff" * 20)
    assert measured(model).parameters == 0


def test_trainings_keep_their_last_checkpoints_and_one_more_while_it_is_written(tmp_path: Path) -> None:
    billion = Amount(2 * 10**9, rows=1000, parameters=10**9)

    def taken(stage: Stage) -> Space:
        assert stage.disk is not None
        return stage.disk(stage, lambda label: billion)

    def fine_tuned(**other: object) -> Stage:
        settings = sft.Settings(save_total_limit=3, **other)  # type: ignore[arg-type]
        return sft.stage("sft", start="x", data=Given("y"), settings=settings)

    with_deepspeed = fine_tuned()
    assert taken(with_deepspeed).size == training(16 * 10**9, 3, None, 1) == 4 * (16 * 10**9 + 100_000)
    assert taken(with_deepspeed).makes["model"] == Amount(2 * 10**9, parameters=10**9)
    assert taken(fine_tuned(deepspeed="")).size == training(6 * 10**9, 3, None, 1)
    short = taken(fine_tuned(max_steps=60, save_steps=100))
    assert short.size == 2 * (16 * 10**9 + 100_000), "its last one, and one where it is told to stop"
    adapter = fine_tuned(tuner_type="lora")
    assert taken(adapter).size < taken(with_deepspeed).size / 50
    merged = merge.stage("merge", start="x", adapter=adapter / "adapter", settings=merge.Settings())
    assert taken(merged).size == billion.size

    given = Stage("rows", nothing, (Artifact("rows"),), Resources()) / "rows"
    settings = rl.Settings(save_total_limit=2, max_steps=10, train_batch_size=4, ppo_mini_batch_size=4)
    learnt = taken(rl.stage("rl", policy="x", train=given, validation=given, settings=settings))
    rollouts = 10 * 4 * settings.n * (4 * settings.max_response_length + rl.ROLLOUT)
    best = 4 * 10**9
    assert learnt.size == training(16 * 10**9, 2, 10, 5) + best + rollouts + 2 * billion.size + 10 * rl.METRICS
    assert learnt.makes["policy"] == Amount(4 * 10**9, parameters=10**9)
