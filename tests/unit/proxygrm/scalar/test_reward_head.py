"""The head of a scalar reward model."""

from __future__ import annotations

import pytest

from support.refusals import refused

torch = pytest.importorskip("torch")

from proxygrm.scalar.head import RewardHead  # noqa: E402

pytestmark = pytest.mark.slow
H = 8


def head(layers: int, activation: str) -> RewardHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RewardHead(H, layers, activation)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("activation", ["none", "tanh", "silu"])
def test_a_head_is_layers_of_the_hidden_size_with_the_activation_between_them(layers: int, activation: str) -> None:
    made = head(layers, activation)
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    hidden = {f"dense.{i}.{part}": shape for i in range(layers - 1) for part, shape in DENSE}
    assert shapes == hidden | {"out_proj.weight": (1, H), "out_proj.bias": (1,)}
    function = {"none": torch.nn.Identity(), "tanh": torch.nn.Tanh(), "silu": torch.nn.SiLU()}[activation]
    parts = [part for layer in made.dense for part in (layer, function)]
    states = torch.randn(3, 4, H)
    assert torch.equal(made(states), torch.nn.Sequential(*parts, made.out_proj)(states))


DENSE = (("weight", (H, H)), ("bias", (H,)))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_scores_are_float32_whatever_the_weights_and_autocast_are(stored: torch.dtype) -> None:
    made = head(2, "silu").to(stored)
    states = torch.randn(5, H)
    scores = made(states.to(stored))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = made(states.to(stored))
    exact = made.float()(states.to(stored).float())
    assert scores.dtype == under_autocast.dtype == torch.float32
    assert scores.shape == (5, 1)
    assert torch.equal(scores, exact)
    assert torch.equal(under_autocast, exact)


def test_a_reloaded_head_gives_the_same_bits_and_other_batch_sizes_nearly_the_same(tmp_path) -> None:
    made, again = head(2, "silu"), RewardHead(H)
    torch.save(made.state_dict(), tmp_path / "head.pt")
    again.load_state_dict(torch.load(tmp_path / "head.pt"))
    states = torch.randn(7, H)
    assert torch.equal(made(states), again(states))
    one_by_one = torch.cat([made(states[i : i + 1]) for i in range(7)])
    assert torch.allclose(made(states), one_by_one, rtol=0, atol=1e-5)


def test_ms_swift_reads_the_data_type_from_the_last_layers_weight() -> None:
    made = head(3, "tanh").to(torch.bfloat16)
    assert made.weight is made.out_proj.weight
    assert made.weight.dtype == torch.bfloat16


def test_a_gradient_reaches_every_parameter() -> None:
    made = head(3, "silu")
    made(torch.randn(2, H)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in made.parameters())


@pytest.mark.parametrize(
    ("values", "code", "name"),
    [
        ((0, 2, "silu"), "settings.out-of-range", "hidden_size"),
        ((H, 0, "silu"), "settings.out-of-range", "layers"),
        ((H, 2, "relu"), "settings.unknown-value", "activation"),
    ],
)
def test_a_head_that_cannot_be_built_is_refused(values: tuple[int, int, str], code: str, name: str) -> None:
    with refused(code, name=name):
        RewardHead(*values)
