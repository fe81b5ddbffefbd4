"""StableReinforce against the paper's formulas and example, the released code's rules, and verl's own loss."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxygrm.rl.algorithms.stable_reinforce import OPTIONS, StableReinforce
from proxygrm.rl.config import RlSettings
from proxygrm.rl.overrides import job_environment
from support.refusals import refused
from support.rl.verl_overrides import overrides

torch = pytest.importorskip("torch")
from proxygrm.rl.stable_reinforce import Rule, advantages, policy_loss  # noqa: E402

pytestmark = pytest.mark.slow
INF, NAN = math.inf, math.nan


def last_token_rewards(scores: list[float], lengths: list[int]) -> tuple[Any, Any]:
    rewards, mask = torch.zeros(len(scores), max(lengths)), torch.zeros(len(scores), max(lengths))
    for row, (score, length) in enumerate(zip(scores, lengths, strict=True)):
        rewards[row, length - 1] = score
        mask[row, :length] = 1
    return rewards, mask


def test_the_paper_s_example_of_pre_clip() -> None:
    old, new = torch.tensor([[-10, -0.2, -0.2, -5.0]]).double(), torch.full((1, 4), -0.1).double()
    weights, mask = torch.tensor([[-1, -1, 0.5, -0.5]]).double(), torch.ones(1, 4)
    assert policy_loss(old, new, weights, mask).item() == pytest.approx(266.9243688, abs=5e-8)
    assert policy_loss(old, new, weights, mask, ratio_bounds=(1e-9, 1e9)).item() == pytest.approx(4999.5, abs=0.05)
    assert policy_loss(*(t.float() for t in (old, new, weights)), mask).item() == pytest.approx(266.92437, rel=1e-6)


def test_one_wrong_answer_in_256_is_filtered_and_the_right_ones_keep_little() -> None:
    rewards, mask = last_token_rewards([1.0] * 255 + [0.0], [16] * 256)
    filtered, returns = advantages(rewards, mask)
    assert filtered[255].abs().max() == 0
    assert filtered[:255].flatten().tolist() == pytest.approx([math.sqrt(1 / 255)] * 255 * 16, rel=1e-4)
    assert returns.tolist() == ([[1.0] * 16] * 255) + [[0.0] * 16]


def test_the_released_window_drops_every_wrong_answer_where_the_paper_s_rule_keeps_them() -> None:
    rewards, mask = last_token_rewards([2.0] * 85 + [0.5] * 15, [3] * 100)
    by_paper, by_code = (advantages(rewards, mask, rule=rule)[0] for rule in ("paper", "code"))
    assert by_paper[85:].flatten().tolist() == pytest.approx([-math.sqrt(0.85 / 0.15)] * 45, rel=1e-5)
    assert (by_code[85:] == 0).all()
    assert torch.equal(by_paper[:85] > 0, by_code[:85] > 0)
    assert by_code[:85].flatten().tolist() == pytest.approx([math.sqrt(0.15 / 0.85)] * 255, rel=1e-5)


def as_released(rewards: Any, mask: Any, gamma: float) -> Any:
    """The released code's arithmetic, from its description, token by token in Python's own floats."""
    returns = []
    for row, kept in zip(rewards.tolist(), mask.tolist(), strict=True):
        total, sums = 0.0, []
        for reward, token in zip(reversed(row), reversed(kept), strict=True):
            total = (reward if token else 0.0) + gamma * total
            sums.append(total)
        returns.append(sums[::-1])
    rows = list(zip(returns, mask.tolist(), strict=True))
    tokens = [value for row, kept in rows for value, token in zip(row, kept, strict=True) if token]
    mean = sum(tokens) / len(tokens)
    deviation = math.sqrt(max(sum((value - mean) ** 2 for value in tokens) / len(tokens), 1e-8))

    def one(value: float, token: float) -> float:
        z = (value - mean) / deviation + 1e-8
        return z if token and mean - 3 <= z <= mean + 3 and abs(z) <= 10 else 0.0

    return [[one(*pair) for pair in zip(row, kept, strict=True)] for row, kept in rows]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("seed", range(8))
def test_the_code_rule_is_the_released_code_s(seed: int, gamma: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 12, (24,), generator=draw).tolist()
    scores = (torch.randint(0, 5, (24,), generator=draw) / 2 * (1 + seed)).tolist()
    rewards, mask = last_token_rewards(scores, lengths)
    rewards = rewards.double() - 0.01 * torch.rand(rewards.shape, generator=draw)
    result, _ = advantages(rewards, mask, gamma=gamma, rule="code")
    expected = torch.tensor(as_released(rewards, mask, gamma), dtype=torch.float64)
    assert torch.allclose(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "int64"])
def test_the_dtype_is_the_input_s_but_at_least_float32(dtype: str) -> None:
    rewards, mask = last_token_rewards([2.0, 0.0, 1.0], [3, 2, 4])
    wanted = torch.float64 if dtype == "float64" else torch.float32
    for out in advantages(rewards.to(getattr(torch, dtype)), mask):
        assert out.dtype == wanted
    logs = (-rewards).to(getattr(torch, dtype))
    assert policy_loss(logs, logs, rewards, mask).dtype == wanted


@pytest.mark.parametrize("rule", ["paper", "code"])
@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_values_where_the_mask_is_zero_never_matter(rule: Rule, kind: Any) -> None:
    rewards, mask = last_token_rewards([2.0, 0.5, 1.0, 0.0], [4, 2, 3, 1])
    mask[3] = 0
    dirty = rewards.clone()
    dirty[mask == 0] = torch.tensor([INF, NAN, -INF, 1e30])[torch.arange(int((mask == 0).sum())) % 4]
    for gamma in (1.0, 0.5):
        clean = advantages(rewards, mask, gamma=gamma, rule=rule)
        for one, other in zip(advantages(dirty, mask.to(kind), gamma=gamma, rule=rule), clean, strict=True):
            assert torch.equal(one, other)
            assert (one[mask == 0] == 0).all()
    new = dirty.clone().requires_grad_()
    loss = policy_loss(rewards, new, dirty, mask.to(kind))
    loss.backward()
    assert loss.item() == pytest.approx(policy_loss(rewards, rewards, rewards, mask).item())
    assert new.grad.isfinite().all()
    assert (new.grad[mask == 0] == 0).all()


@pytest.mark.parametrize("rule", ["paper", "code"])
@pytest.mark.parametrize("reward", [NAN, INF, -INF])
def test_a_reward_that_is_not_finite_teaches_nothing_and_stays_within_the_mask(rule: Rule, reward: float) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    rewards = torch.tensor([[1.0, reward, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    values, returns = advantages(rewards, mask, rule=rule)
    assert (values == 0).all()
    assert (returns[mask == 0] == 0).all()


def test_without_tokens_or_without_variance_nothing_is_learnt() -> None:
    ones = torch.ones(4, 6)
    assert (advantages(ones, torch.zeros(4, 6))[0] == 0).all()
    assert policy_loss(ones, ones, ones, torch.zeros(4, 6)).item() == 0
    rewards, mask = last_token_rewards([0.1] * 999, [7] * 999)
    assert advantages(rewards, mask)[0].abs().max() < 1e-3
    single, _ = advantages(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    assert single.tolist() == [[0.0]]


def test_sequences_count_equally_and_empty_ones_leave_the_mean() -> None:
    logs, mask = torch.zeros(3, 4), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0], [8.0, 9.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0]])
    assert policy_loss(logs, logs, weights, mask).item() == pytest.approx(-(2.5 + 8) / 2)


def test_the_loss_and_its_gradient_are_finite_for_any_input() -> None:
    values = [0.0, -1.0, 3.0, 1e38, -1e38, INF, -INF, NAN]
    grid = torch.cartesian_prod(*[torch.tensor(values)] * 3)
    old, new, weights = (column.reshape(8, -1) for column in grid.t())
    new = new.clone().requires_grad_()
    loss = policy_loss(old, new, weights, torch.ones_like(old))
    loss.backward()
    assert loss.isfinite()
    assert new.grad.isfinite().all()


def test_the_gradient_ends_where_the_clips_begin() -> None:
    new = torch.tensor([[0.0, 0.1, 0.5, 8.0, -8.0, 2.0, -0.5]], requires_grad=True)
    weights = torch.tensor([[1.0, 1.0, 1.0, -1.0, 1.0, -1.0, -1.0]])
    policy_loss(torch.zeros(1, 7), new, weights, torch.ones(1, 7)).backward()
    ratio = [1.0, math.exp(0.1), 0.0, 0.0, 0.0, math.exp(2.0), 0.0]  # clipped: above 1.2, 1000, below 0.001, 0.8
    assert (new.grad * 7).flatten().tolist() == pytest.approx(
        [-r * w for r, w in zip(ratio, weights[0].tolist(), strict=True)]
    )


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"rule": "released"}, "settings.unknown-value", {"name": "rule", "known": ["paper", "code"]}),
        ({"limit": 0.0}, "settings.out-of-range", {"name": "limit", "value": 0.0}),
        ({"gamma": NAN}, "settings.out-of-range", {"name": "gamma"}),
        ({"gamma": 1.01}, "settings.out-of-range", {"name": "gamma"}),
        ({"response_mask": torch.ones(3, 4)}, "rl.shapes-differ", {"shapes": [[2, 4], [3, 4]]}),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], code: str, values: dict[str, Any]) -> None:
    with refused(code, **values):
        advantages(**{"token_level_rewards": torch.ones(2, 4), "response_mask": torch.ones(2, 4), **change})
    with refused("settings.out-of-range", name="ratio_bounds"):
        policy_loss(*[torch.ones(2, 4)] * 4, ratio_bounds=(2.0, 1e3))
    for clip_eps in (NAN, INF, -0.1):
        with refused("settings.out-of-range", name="clip_eps"):
            policy_loss(*[torch.ones(2, 4)] * 4, clip_eps=clip_eps)
    with refused("rl.shapes-differ"):
        policy_loss(torch.ones(2, 4), torch.ones(2, 1), torch.ones(2, 4), torch.ones(2, 4))


def test_its_processes_import_the_plugin_and_get_its_options(tmp_path: Path) -> None:
    algorithm = StableReinforce(rule="code", limit=2.5)
    for device in ("cpu", "cuda"):
        environment = job_environment(device=device, output=tmp_path, algorithm=algorithm)
        modules = environment["VERL_USE_EXTERNAL_MODULES"].split(",")
        assert modules[0] == "proxygrm.rl.guards.guarded_verl"
        assert modules[-1] == "proxygrm.rl.plugins.stable_reinforce"
        assert json.loads(environment[OPTIONS]) == {"rule": "code", "limit": 2.5, "max_log_prob_distance": 0.1}
    lines = overrides(RlSettings(algorithm=algorithm, n=1, attn_implementation="sdpa"))
    assert any(line.startswith(f"+ray_kwargs.ray_init.runtime_env.env_vars.{OPTIONS}=") for line in lines)
    assert not any("stable" in line for line in overrides(RlSettings(attn_implementation="sdpa")))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("clip_ratio_c", 1.0),
        ("clip_ratio_c", INF),
        ("limit", 0.0),
        ("limit", NAN),
        ("gamma", 1.5),
        ("kl_in_reward", -1),
    ],
)
def test_an_option_out_of_its_bounds_is_refused(option: str, value: float) -> None:
    with refused("settings.out-of-range", name=option):
        StableReinforce(**{option: value})


def test_one_answer_per_prompt_is_enough_for_it_and_not_for_grpo() -> None:
    assert RlSettings(algorithm=StableReinforce(), n=1).n == 1
    with refused("settings.out-of-range", name="n", value=1):
        RlSettings(n=1)


VERL = """
import json, sys, warnings
warnings.filterwarnings("ignore")
from pathlib import Path
import torch, verl.trainer
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
from verl.utils.config import omega_conf_to_dataclass
from proxygrm.rl.plugins import stable_reinforce as plugin
from proxygrm.rl.stable_reinforce import advantages, policy_loss

with initialize_config_dir(str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
    config = compose("ppo_trainer", json.load(sys.stdin))
actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
trained = get_policy_loss_fn(actor.policy_loss.loss_mode)

def both(old, new, weights, mask):
    results = []
    for loss in (
        lambda x: policy_loss(old, x, weights, mask),
        lambda x: trained(old, x, weights, mask, loss_agg_mode=actor.loss_agg_mode, config=actor)[0],
    ):
        x = new.clone().requires_grad_()
        value = loss(x)
        value.backward()
        results.append((value.item(), x.grad.flatten()))
    (ours, our_gradient), (theirs, their_gradient) = results
    return ours, theirs, (our_gradient - their_gradient).abs().max().item()

def one(difference, weight):
    t = [torch.tensor([[x]], dtype=torch.float64) for x in (0.0, difference, weight)]
    return both(*t, torch.ones(1, 1, dtype=torch.bool))

draw = torch.Generator().manual_seed(0)
relative = gradients = 0.0
for case in range(200):
    old = -5 * torch.rand(6, 20, generator=draw, dtype=torch.float64)
    new = old + (case % 5) * torch.randn(6, 20, generator=draw, dtype=torch.float64).clamp(-1.3, 3)
    weights = torch.randn(6, 20, generator=draw, dtype=torch.float64)
    mask = torch.rand(6, 20, generator=draw) < 0.7
    mask[case % 6] = False
    ours, theirs, gradient = both(old, new, weights, mask)
    relative, gradients = max(relative, abs(ours - theirs) / max(abs(ours), 1e-9)), max(gradients, gradient)
found = {"relative": relative, "gradients": gradients}
found["corners"] = {
    "ratio below 1e-3, advantage above 0": one(-9.0, 1.0),
    "ratio beyond verl's own clamp": one(-30.0, 1.0),
    "ratio on the upper bound": one(6.907755278982137, -1.0),
    "ratio far above it": one(30.0, -1.0),
    "far above it, advantage above 0": one(30.0, 1.0),
    "below 1e-3, advantage below 0": one(-9.0, -1.0),
}
rewards, mask = torch.rand(8, 5, generator=draw), torch.ones(8, 5)
mask[2, 3:] = 0
rewards[2, 4], rewards[0, 4] = 9.0, 40.0
estimator = get_adv_estimator_fn(config.algorithm.adv_estimator)
a, r = estimator(token_level_rewards=rewards, response_mask=mask, config=config.algorithm, index=None)
b, s = advantages(rewards, mask, gamma=0.5, rule="paper", limit=2.0)
found["estimator"] = torch.equal(a, b) and torch.equal(r, s)
found["shares"] = dict(plugin._shares)
found["dropped"] = [int(((b == 0) & (mask != 0)).sum()), int(mask.sum())]
print("FOUND", json.dumps(found))
"""


@pytest.mark.heavy
def test_verl_s_loss_is_the_reference_but_for_two_corners_and_its_registry_has_the_estimator(tmp_path: Path) -> None:
    algorithm = StableReinforce(gamma=0.5, limit=2.0)
    lines = overrides(RlSettings(algorithm=algorithm, n=1, attn_implementation="sdpa"))
    environment = os.environ | {OPTIONS: algorithm.environment[OPTIONS], "VERL_USE_EXTERNAL_MODULES": algorithm.plugin}
    run = subprocess.run(
        [sys.executable, "-c", VERL],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.split("FOUND ", 1)[1])
    assert found["relative"] < 1e-7  # verl divides by each sequence's number of tokens + 1e-8
    assert found["gradients"] < 1e-6
    corners = {name: tuple(pytest.approx(value, abs=1e-9) for value in values) for name, values in {
        # the reference's loss, verl's loss, distance of the gradients
        "ratio below 1e-3, advantage above 0": (-1e-3, -math.exp(-9), math.exp(-9)),
        "ratio beyond verl's own clamp": (-1e-3, -math.exp(-20), 0.0),
        "far above it, advantage above 0": (-1.2, -1.2, 0.0),
        "below 1e-3, advantage below 0": (0.8, 0.8, 0.0),
    }.items()}  # fmt: skip
    for name, expected in corners.items():
        assert tuple(found["corners"][name]) == expected, name
    for name in ("ratio on the upper bound", "ratio far above it"):
        ours, theirs, _ = found["corners"][name]
        assert ours == pytest.approx(1000, rel=1e-7) == theirs, name
    assert found["corners"]["ratio far above it"][2] == 0
    assert found["estimator"]
    dropped, tokens = found["dropped"]
    assert dropped
    assert found["shares"] == {
        "filtered_positive": pytest.approx(dropped / tokens),
        "filtered_negative": 0.0,
        "not_finite": 0.0,
    }


class Trainer:
    """What the plugin uses of verl's trainer."""

    def __init__(self, step: int, stop_file: Path) -> None:
        self.global_steps = step
        self.replay_buffer = SimpleNamespace(options=SimpleNamespace(stop_file=str(stop_file)))


@pytest.mark.parametrize(
    ("step", "distance", "stops"), [(1, 0.02, False), (1, 0.5, True), (1, NAN, True), (2, 0.5, False)]
)
def test_an_actor_that_does_not_see_the_image_ends_the_run_at_its_first_step_only(
    step: int, distance: float, stops: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxygrm.rl.plugins import stable_reinforce as plugin

    stop_file = tmp_path / "stopped.txt"
    monkeypatch.setattr(plugin, "_options", lambda: {"max_log_prob_distance": 0.1})
    monkeypatch.setattr(plugin, "log_prob_distance", lambda batch: distance)
    monkeypatch.setitem(plugin._shares, "filtered_negative", 0.25)
    compute = plugin.with_figures(lambda self, batch, metrics: batch)
    metrics: dict[str, Any] = {}
    if stops:
        with pytest.raises(plugin.ActorDisagrees):
            compute(Trainer(step, stop_file), "batch", metrics)
        assert stop_file.read_text().count("\n") == 1
        return
    assert compute(Trainer(step, stop_file), "batch", metrics) == "batch"
    figures = {"stable_reinforce/log_prob_distance": distance} if step == 1 else {}
    assert metrics == figures | {"stable_reinforce/filtered_negative": 0.25}
    assert not stop_file.exists()
    assert not plugin._shares
