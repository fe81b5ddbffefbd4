"""Ablation specs as stages: what is shared, what a cell has for itself, and in which arrays it is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from jobs.cli.run.ablate import collect, comparisons
from jobs.engine import sweep
from jobs.engine.plan import Facts, dependency, in_batches, plan
from jobs.engine.recipe import PerCell, Sweep
from jobs.engine.request import Request, ablation_of, save
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Stage
from jobs.engine.submit import rendered
from jobs.engine.sweep import Cell
from jobs.recipes import find, of_run, read_spec, resolve, shipped
from jobs.recipes.proxy_grm import RECIPE, demo, paper
from proxygrm.core.errors import UserError
from proxygrm.evaluate.scores.repeated import compare_trainings
from slurm import profile
from support.refusals import code_of, refused


def spec_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def by_name(stages: list[Stage]) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages}


SEEDS = '[grid]\n"grm_rl.reward.aggregation" = ["sum", "bonus"]\n"grm_rl.seed" = [1, 2]\n'


def test_a_grid_is_every_combination_and_cells_are_multiplied_with_it(tmp_path: Path) -> None:
    found = read_spec(RECIPE, spec_file(tmp_path, SEEDS)).cells
    assert [cell.name for cell in found] == [
        "aggregation-sum_seed-1",
        "aggregation-sum_seed-2",
        "aggregation-bonus_seed-1",
        "aggregation-bonus_seed-2",
    ]
    assert found[2].settings == ("grm_rl.reward.aggregation=bonus", "grm_rl.seed=1")
    both = '[[cells]]\nname = "a"\nset = ["grm_rl.n=4"]\n[[cells]]\nname = "b"\n'
    both += '[grid]\n"grm_rl.reward.deny_leaks" = [true, false]\n'
    found = read_spec(RECIPE, spec_file(tmp_path, both)).cells
    assert [cell.name for cell in found] == [
        "a_deny_leaks-true",
        "a_deny_leaks-false",
        "b_deny_leaks-true",
        "b_deny_leaks-false",
    ]
    assert found[1].settings == ("grm_rl.n=4", "grm_rl.reward.deny_leaks=false")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "give a [grid]"),
        ("[grid", "cannot be read"),
        ("grids = 1", "unknown key 'grids'"),
        ('[grid]\n"grm_rl.n" = 4', "is a list of at least one value"),
        ('[grid]\n"grm_rl.n" = []', "is a list of at least one value"),
        ("throttle = -1\n[grid]\nx = [1]", "throttle is -1"),
        ('[[cells]]\nname = "../x"', "a cell is name"),
        ('[[cells]]\nname = "x"\nset = ["grm_rl.n"]', "a cell is name"),
        ('[[cells]]\nname = "x"\nsets = ["grm_rl.n=4"]\nset = []', "a cell is name"),
        ('[grid]\nproxy = ["a/model", "b/model"]', "two cells are called 'proxy-model'"),
        ('set = ["x"]\n[grid]\nx = [1]', "set is ['x']"),
        ("sweep = 1\n[grid]\nx = [1]", "sweep is 1"),
    ],
)
def test_a_bad_spec_is_one_line_that_names_the_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_spec(RECIPE, spec_file(tmp_path, text))
    assert said in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_some_cells_can_be_taken_and_a_wrong_name_is_said(tmp_path: Path) -> None:
    path = spec_file(tmp_path, SEEDS)
    assert len(read_spec(RECIPE, path, ["*seed-1", "aggregation-sum_*"]).cells) == 3
    with pytest.raises(UserError, match=r"no cell is called 'seed'; there are aggregation-sum_seed-1"):
        read_spec(RECIPE, path, ["seed"])


def test_cells_can_be_left_out_but_not_all_of_them(tmp_path: Path) -> None:
    path = spec_file(tmp_path, SEEDS)
    left = read_spec(RECIPE, path, ["!*seed-1", "aggregation-*"]).cells
    assert [cell.name for cell in left] == ["aggregation-sum_seed-2", "aggregation-bonus_seed-2"]
    with refused("ablation.unknown-cell", name="seed"):
        read_spec(RECIPE, path, ["!seed"])
    with refused("ablation.no-cells"):
        read_spec(RECIPE, path, ["!*"])


def test_what_all_cells_have_in_common_comes_before_their_own(tmp_path: Path) -> None:
    common = 'set = ["grm_rl.n=4", "grm_rl.kl_loss_coef=0"]\n[[cells]]\nname = "a"\nset = ["grm_rl.n=8"]\n'
    (cell,) = read_spec(RECIPE, spec_file(tmp_path, common)).cells
    assert cell.settings == ("grm_rl.n=4", "grm_rl.kl_loss_coef=0", "grm_rl.n=8")
    changed = sweep.settings_of(demo(), cell)
    assert (changed.grm_rl.n, changed.grm_rl.kl_loss_coef) == (8, 0)


def test_a_spec_can_name_another_sweep_of_its_recipe(tmp_path: Path) -> None:
    judging = Sweep({"evaluate": PerCell("judging")}, left_out=("transfer", "report"))
    recipe = replace(RECIPE, sweeps={"judging": judging})
    text = 'sweep = "judging"\n[grid]\n"evaluate.max_pairs" = [2, 4]\n'
    spec = read_spec(recipe, spec_file(tmp_path, text))
    stages = by_name(sweep.stages(recipe, demo(), spec.cells, 0, spec.sweep))
    own = [name for name in stages if name.startswith("cells/")]
    assert own == ["cells/max_pairs-2/evaluate", "cells/max_pairs-4/evaluate"]
    assert list(sweep.last_stages(spec, recipe)) == own
    assert "grm_rl" in stages  # shared
    with refused("ablation.unknown-sweep", name="judgin", known=["judging"]):
        sweep.stages(recipe, demo(), spec.cells, 0, "judgin")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Sweep({"grm_lr": PerCell("rl")}), "repeats grm_lr, and the chain has distill, split, "),
        (Sweep({"evaluate": PerCell("judging"), "grm_rl": PerCell("rl")}), "repeats evaluate, grm_rl; give them in "),
        (Sweep({"grm_rl": PerCell("rl")}, ("split",)), "leaves out split, which proxy_sft needs"),
    ],
)
def test_a_sweep_that_does_not_fit_the_chain_is_one_line(wrong: Sweep, said: str) -> None:
    with refused("ablation.wrong-sweep") as caught:
        sweep.stages(replace(RECIPE, sweep=wrong), demo(), [Cell("a", ("grm_rl.seed=2",))])
    assert str(caught.value).startswith(f"{RECIPE.file or 'proxy_grm'}: its Sweep {said}")
    with refused("recipe.wrong-field", name="sweep"):
        replace(RECIPE, sweep=Sweep({"grm_rl": "rl"}))  # type: ignore[dict-item]


def test_an_unknown_spec_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'aggregation'"):
        read_spec(RECIPE, "agregation")


def test_a_recipe_without_specs_ships_none_wherever_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[build-system]\n")
    monkeypatch.chdir(tmp_path)
    bare = replace(RECIPE, ablations="")
    assert shipped(bare) == []
    with refused("ablation.unknown", name="pyproject", known=[]):
        read_spec(bare, "pyproject")
    assert CliRunner().invoke(main, ["ablate"]).exit_code == 0


def test_a_wrong_setting_names_its_cell() -> None:
    with pytest.raises(UserError, match=r"cell odd: --set grm_rl\.m"):
        sweep.stages(RECIPE, demo(), (Cell("odd", ("grm_rl.m=4",)),))


@pytest.mark.parametrize("spec", shipped(RECIPE), ids=lambda spec: spec.name)
def test_every_shipped_spec_is_a_chain_of_the_paper_s_preset(spec) -> None:  # type: ignore[no-untyped-def]
    stages = by_name(sweep.stages(RECIPE, paper(), spec.cells, spec.throttle))
    trained = [stage for stage in stages.values() if stage.batch == "ablation_rl"]
    assert len(trained) == len(spec.cells) == len({stage.fingerprint() for stage in trained})
    assert len([stage for stage in stages.values() if stage.batch == "ablation_evaluate"]) == len(spec.cells)
    assert {parent.name for stage in stages.values() for parent in stage.upstream()} <= stages.keys()


def test_cells_share_what_they_do_not_differ_in() -> None:
    stages = sweep.stages(RECIPE, demo(), read_spec(RECIPE, "implicit-explicit").cells)
    shared = [stage for stage in stages if not stage.batch]
    assert [stage.name for stage in shared] == ["distill", "split", "proxy_sft", "grm_sft"]
    plain = by_name(resolve(Request()).stages)
    assert all(stage.fingerprint() == plain[stage.name].fingerprint() for stage in shared)


def test_a_cell_with_another_proxy_has_a_proxy_of_its_own_and_adding_cells_renames_none() -> None:
    small = Cell("small", ("proxy_sft.max_steps=7",))
    cells = (Cell("base", ()), small)
    stages = by_name(sweep.stages(RECIPE, demo(), cells))
    (own,) = [name for name in stages if name.startswith("proxy_sft-")]
    assert stages[own].config.max_steps == 7
    assert own in {parent.name for parent in stages["cells/small/grm_rl"].upstream()}
    assert "proxy_sft" in {parent.name for parent in stages["cells/base/grm_rl"].upstream()}
    more = by_name(sweep.stages(RECIPE, demo(), (Cell("first", ("proxy_sft.max_steps=9",)), *cells)))
    assert {name: more[name].fingerprint() for name in stages} == {n: s.fingerprint() for n, s in stages.items()}


def sent(stages: list[Stage], done: set[str]) -> list[list[str]]:
    facts = {stage.name: Facts(None if stage.name in done else "not done yet") for stage in stages}
    return [[line.stage.name for line in lines] for lines in in_batches(plan(stages, facts))]


CELLS = tuple(Cell(f"c{i}", (f"grm_rl.seed={i}",)) for i in range(3))
SHARED = {"distill", "split", "proxy_sft", "grm_sft"}


def test_all_cells_are_two_arrays_the_second_waiting_element_by_element() -> None:
    stages = sweep.stages(RECIPE, demo(), CELLS, throttle=2)
    facts = {stage.name: Facts(None if stage.name in SHARED else "not done yet") for stage in stages}
    rl, evaluations = in_batches(plan(stages, facts))
    assert dependency(rl, {}) == ""
    ids = {line.stage.name: f"70_{i}" for i, line in enumerate(rl)}
    assert dependency(evaluations, ids) == "aftercorr:70"
    script = rendered(rl, profile.load("local"), Path("/runs/x"), {})
    assert "#SBATCH --array=0-2%2" in script
    assert "#SBATCH --job-name=ablation_rl" in script


def test_cells_that_ask_for_other_resources_are_arrays_of_their_own() -> None:
    long = tuple(Cell(f"long{i}", (f"grm_rl.seed={i}", "grm_rl.on.timeout_min=55")) for i in (7, 8))
    stages = sweep.stages(RECIPE, demo(), (*CELLS, *long))
    facts = {stage.name: Facts(None if stage.name in SHARED else "not done yet") for stage in stages}
    batches = in_batches(plan(stages, facts))
    assert [len(lines) for lines in batches] == [3, 2, 3, 2]
    scripts = [rendered(lines, profile.load("local"), Path("/runs/x"), {}) for lines in batches[:2]]
    assert [f"#SBATCH --time={minutes}\n" in s for minutes, s in zip((30, 55), scripts, strict=True)] == [True, True]
    ids = {line.stage.name: f"{80 + n}_{i}" for n in (0, 1) for i, line in enumerate(batches[n])}
    assert [dependency(lines, ids) for lines in batches[2:]] == ["aftercorr:80", "aftercorr:81"]


def test_an_evaluation_in_shards_is_an_array_for_each_cell_which_waits_for_its_own_cell_only() -> None:
    config = replace(demo(), evaluate=replace(demo().evaluate, shards=3))
    stages = sweep.stages(RECIPE, config, CELLS)
    kinds = [stage.name.rpartition("/")[2] for stage in stages if stage.name.startswith("cells/")]
    assert kinds == ["grm_rl"] * 3 + ["evaluate_shards"] * 3 + ["evaluate"] * 3
    facts = {stage.name: Facts(None if stage.name in SHARED else "not done yet") for stage in stages}
    rl, *others = in_batches(plan(stages, facts))
    assert [len(rl), *map(len, others)] == [3, *[1] * 6]
    ids = {line.stage.name: f"70_{i}" for i, line in enumerate(rl)}
    ids |= {f"cells/c{i}/evaluate_shards": str(71 + i) for i in range(3)}
    waits = {lines[0].stage.name: dependency(lines, ids) for lines in others}
    for i in range(3):
        assert waits[f"cells/c{i}/evaluate_shards"] == f"afterok:70_{i}"
        assert waits[f"cells/c{i}/evaluate"] == f"afterok:{71 + i}:70_{i}"
    assert "#SBATCH --array=0-2%3\n" in rendered(others[0], profile.load("local"), Path("/runs/x"), {})
    unsharded = by_name(sweep.stages(RECIPE, demo(), CELLS))["cells/c0/evaluate"]
    assert set(unsharded.needs) == {"held_out", "proxy", "rl"}
    assert set(by_name(stages)["cells/c0/evaluate"].needs) == {"held_out", "proxy", "rl", "answers"}


def test_only_missing_cells_are_sent_and_what_is_trained_waits_for_nothing() -> None:
    stages = sweep.stages(RECIPE, demo(), CELLS)
    done = SHARED | {"cells/c0/grm_rl", "cells/c0/evaluate", "cells/c1/grm_rl"}
    assert sent(stages, done) == [["cells/c2/grm_rl"], ["cells/c1/evaluate"], ["cells/c2/evaluate"]]


def test_with_nothing_done_the_cells_wait_for_every_shared_stage() -> None:
    stages = sweep.stages(RECIPE, demo(), CELLS)
    batches = in_batches(plan(stages, {stage.name: Facts("not done yet") for stage in stages}))
    assert dependency(batches[-2], {"split": "3", "proxy_sft": "4", "grm_sft": "5"}) == "afterok:5:4:3"


def test_an_ablation_is_what_its_run_folder_says(tmp_path: Path) -> None:
    asked = resolve(Request(ablation_name="mine", ablation=CELLS, throttle=2))
    save(asked, Ledger(tmp_path / "run"))
    found = of_run(tmp_path / "run")
    assert found.request == asked.request
    assert [s.fingerprint() for s in found.stages] == [s.fingerprint() for s in asked.stages]
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_ablation_in_the_folder_of_a_chain_takes_nothing_away_and_neither_does_the_chain(tmp_path: Path) -> None:
    run, chain = tmp_path / "run", resolve(Request(assignments=("grm_rl.n=4",)))
    mine = resolve(Request(assignments=("grm_rl.n=4",), ablation_name="mine", ablation=CELLS))
    small = (Cell("small", ("proxy_sft.max_steps=7",)),)
    other = resolve(Request(assignments=("grm_rl.n=4",), ablation_name="other", ablation=small))
    for asked in (chain, mine, other, chain):
        save(asked, Ledger(run))
    assert read_json(run / "run.json")["request"]["ablation"] == []
    found, names = by_name(of_run(run).stages), [stage.name for stage in chain.stages]
    assert list(found)[: len(names)] == names
    wanted = {**by_name(mine.stages), **by_name(other.stages), **by_name(chain.stages)}
    assert {name: stage.fingerprint() for name, stage in found.items()} == {
        name: stage.fingerprint() for name, stage in wanted.items()
    }
    assert ablation_of(run).ablation == small, "the last one"
    assert ablation_of(run, "mine").ablation == CELLS
    with pytest.raises(UserError, match=r"has no ablation 'mien'; it has mine, other"):
        ablation_of(run, "mien")
    with pytest.raises(UserError, match=r"has no ablation; `proxygrm ablate SPEC` starts one"):
        ablation_of(tmp_path)


def test_a_stage_that_chain_and_ablation_ask_for_differently_is_as_it_was_asked_for_last(tmp_path: Path) -> None:
    chain = resolve(Request())
    ablation = resolve(Request(assignments=("split.short=take",), ablation_name="mine", ablation=CELLS))
    for asked in (chain, ablation):
        save(asked, Ledger(tmp_path))
        split = by_name(of_run(tmp_path).stages)["split"]
        assert split.fingerprint() == by_name(asked.stages)["split"].fingerprint()


def evaluated(run: Path, cell: str, accuracy: float) -> None:
    folder = run / "cells" / cell / "evaluate"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"rl": {"accuracy": accuracy, "format_rate": None}}))
    (folder / "DONE.json").write_text("{}")


def test_the_table_has_mean_and_spread_over_seeds_and_counts_what_is_missing(tmp_path: Path) -> None:
    cells = read_spec(RECIPE, spec_file(tmp_path, SEEDS)).cells
    evaluated(tmp_path, "aggregation-sum_seed-1", 0.7)
    evaluated(tmp_path, "aggregation-sum_seed-2", 0.8)
    evaluated(tmp_path, "aggregation-bonus_seed-2", 0.5)
    (tmp_path / "cells" / "aggregation-bonus_seed-1" / "evaluate").mkdir(parents=True)
    table = RECIPE.sweep.table
    assert table
    one, two = collect(tmp_path, cells, table)
    assert (one.name, one.evaluated, one.cells) == ("aggregation=sum", 2, 2)
    assert one.means["accuracy"] == pytest.approx(0.75)
    assert one.spreads["accuracy"] == pytest.approx(0.05 * 2**0.5)
    assert "format_rate" not in one.means
    assert (two.evaluated, two.cells, two.spreads["accuracy"]) == (1, 2, None)


def judged(run: Path, cell: str, right: str, proxy_asked: bool = True) -> None:
    """right: of each pair, whether its one judgement is right (1); what the proxy says cannot be read."""
    evaluated(run, cell, 0.5)
    proxy = {"proxy_asked": proxy_asked, "proxy_agrees": None}
    rows = [{"id": str(at), "copy": 0, "correct": mark == "1", **proxy} for at, mark in enumerate(right)]
    (run / "cells" / cell / "evaluate" / "rl.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_every_row_is_compared_with_the_first_on_the_same_pairs(tmp_path: Path) -> None:
    cells, table = read_spec(RECIPE, spec_file(tmp_path, SEEDS)).cells, RECIPE.sweep.table
    assert table
    judged(tmp_path, "aggregation-sum_seed-1", "10000000")
    assert comparisons(tmp_path, cells, table) == [], "not while a seed of the first is missing"
    judged(tmp_path, "aggregation-sum_seed-2", "00000000")
    judged(tmp_path, "aggregation-bonus_seed-1", "11111111")
    assert comparisons(tmp_path, cells, table) == []
    judged(tmp_path, "aggregation-bonus_seed-2", "11111110")
    accuracy, proxy = comparisons(tmp_path, cells, table)
    assert (accuracy["baseline"], accuracy["run"], accuracy["pairs"]) == ("aggregation=sum", "aggregation=bonus", 8)
    assert (accuracy["figure"], accuracy["by_seed"]) == ("accuracy_unparsed_wrong", [7 / 8, 7 / 8])
    assert accuracy["difference"] == pytest.approx(7 / 8)
    assert accuracy["low"] < 7 / 8 < accuracy["high"]
    assert accuracy["p"] == pytest.approx(2 / 2**8, abs=0.003), "all eight differ in one direction"
    assert (proxy["figure"], proxy["difference"], proxy["p"]) == ("proxy_agreement_all", 0.0, 1.0)
    judged_others = tmp_path / "cells" / "aggregation-bonus_seed-2" / "evaluate" / "rl.jsonl"
    judged_others.write_text(judged_others.read_text().replace('"7"', '"8"'))
    with refused("eval.other-pairs", runs=["aggregation=sum", "aggregation=bonus"]):
        comparisons(tmp_path, cells, table)


def test_a_proxy_that_nobody_asked_is_not_compared(tmp_path: Path) -> None:
    cells, table = read_spec(RECIPE, spec_file(tmp_path, SEEDS)).cells, RECIPE.sweep.table
    assert table
    for cell in cells:
        judged(tmp_path, cell.name, "1100", proxy_asked=False)
    (row,) = comparisons(tmp_path, cells, table)
    assert row["figure"] == "accuracy_unparsed_wrong"
    assert row["p_holm"] == row["p"], "a comparison that there is not is not corrected for"


def test_the_table_is_shown_before_a_comparison_that_fails(tmp_path: Path) -> None:
    cells = read_spec(RECIPE, spec_file(tmp_path, SEEDS)).cells
    run = tmp_path / "run"
    save(resolve(Request(ablation_name="mine", ablation=cells)), Ledger(run))
    for cell, right in zip(cells, ("1100", "1100", "1100", "110"), strict=True):
        judged(run, cell.name, right)
    shown = CliRunner().invoke(main, ["ablate", "--table", "--run", str(run)])
    assert (shown.exit_code, code_of(shown.output)) == (2, "eval.other-pairs")
    assert shown.output.index("aggregation=bonus") < shown.output.index("eval.other-pairs")
    assert [row["name"] for row in json.loads((run / "ablations" / "mine" / "table.json").read_text())] == [
        "aggregation=sum",
        "aggregation=bonus",
    ]
    assert not (run / "ablations" / "mine" / "comparisons.json").exists()


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_trainings_are_drawn_whether_or_not_the_table_is_json(tmp_path: Path, words: list[str]) -> None:
    recipe = "r1-reward:demo"
    cells = read_spec(find(recipe)[0], "filter").cells
    save(resolve(Request(recipe=recipe, ablation_name="mine", ablation=cells)), Ledger(tmp_path))
    metrics = tmp_path / "cells" / cells[0].name / "r1_rl" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"step": 1, "actor/pg_loss": 0.5}\n{"step": 2, "actor/pg_loss": 0.25}\n')
    shown = CliRunner().invoke(main, ["ablate", "--table", "--run", str(tmp_path), *words], catch_exceptions=False)
    assert shown.exit_code == 0
    assert (tmp_path / "ablations" / "mine" / "trainings.svg").read_text().count("<circle") == 2
    if words:
        assert len(json.loads(shown.stdout)) == len(cells)


def test_policies_are_compared_on_the_same_questions(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in ("hybrid", "answer", "unknown")}
    for (name, file), matches in zip(files.items(), ([True] * 8, [False] * 8, [True] * 7 + [None]), strict=True):
        rows = [{"id": f"q{at}", "matches": each, "text": name} for at, each in enumerate(matches)]
        file.write_text("\n".join(map(json.dumps, rows)))
    (row,) = compare_trainings({name: [files[name]] for name in ("hybrid", "answer")})
    assert (row["figure"], row["pairs"], row["difference"]) == ("accuracy", 8, -1.0)
    assert compare_trainings({name: [files[name]] for name in ("hybrid", "unknown")}) == []


def test_a_judge_of_one_s_own_is_what_the_evaluation_needs_and_its_path_is_not_part_of_it() -> None:
    other = resolve(Request(assignments=("evaluate.judge=somebody/unseen",)))
    needs = by_name(other.stages)["evaluate"].needs
    assert needs["proxy"].path == "somebody/unseen"
    assert by_name(other.stages)["evaluate"].config.judge == ""


def test_a_thousand_cells_are_planned_as_one_array_in_seconds() -> None:
    cells = tuple(Cell(f"c{i}", (f"grm_rl.seed={i}",)) for i in range(1000))
    stages = sweep.stages(RECIPE, demo(), cells, throttle=50)
    facts = {stage.name: Facts(None if stage.name in SHARED else "not done yet") for stage in stages}
    batches = in_batches(plan(stages, facts))
    assert [len(lines) for lines in batches] == [1000, 1000]
    assert replace(stages[-1]).batch == "ablation_evaluate"
