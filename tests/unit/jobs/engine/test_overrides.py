"""--set a.b=c."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from jobs.engine import overrides
from proxygrm.core.errors import UserError


@dataclass(frozen=True)
class Inner:
    rate: float = 1e-3
    steps: int = 5
    flag: bool = False
    kinds: tuple[str, ...] = ("colour",)
    limit: int | None = None


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("inner.rate=3e-7", "rate", 3e-7),
        ("inner.rate=1", "rate", 1.0),
        ("inner.steps=12", "steps", 12),
        ("inner.flag=true", "flag", True),
        ("inner.kinds=colour,shape", "kinds", ("colour", "shape")),
        ('inner.kinds=["a b", "c,d"]', "kinds", ("a b", "c,d")),
        ("inner.limit=4", "limit", 4),
        ("inner.limit=none", "limit", None),
    ],
)
def test_a_value_is_read_as_its_field_s_type(assignment: str, field: str, value: object) -> None:
    changed = overrides.apply(Outer(), [assignment])
    assert getattr(changed.inner, field) == value
    assert type(getattr(changed.inner, field)) is type(value)


def test_text_may_hold_an_equals_sign_and_spaces() -> None:
    assert overrides.apply(Outer(), ["name=a = b"]).name == "a = b"


@dataclass(frozen=True)
class Multiple:
    batch: int = 8
    mini_batch: int = 8

    def __post_init__(self) -> None:
        if self.batch % self.mini_batch:
            raise UserError("not a multiple")


def test_values_that_only_fit_together_can_be_set_together() -> None:
    assert overrides.apply(Multiple(), ["batch=6", "mini_batch=6"]) == Multiple(6, 6)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("inner.stpes=1", "did you mean 'steps'"),
        ("inner.steps=many", "is not int"),
        ("inner.flag=maybe", "true or false"),
        ("inner=3", "set one of inner.rate"),
        ("name.x=3", "is a single value, it has no parts$"),
        ("name.rate=3", r"has no parts; did you mean inner.rate\?"),
        ("rate=3", r"nothing is called 'rate' there; did you mean inner.rate\?"),
        ("steps", "expected NAME=VALUE"),
    ],
)
def test_a_bad_assignment_says_what_is_wrong(assignment: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        overrides.apply(Outer(), [assignment])
