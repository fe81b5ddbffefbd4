"""Settings from tables and from `--set a.b=c`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import pytest

from proxygrm.core.errors import UserError
from proxygrm.core.settings import chosen_from, from_table, with_assignments
from support.refusals import refused


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
    changed = with_assignments(Outer(), [assignment])
    assert getattr(changed.inner, field) == value
    assert type(getattr(changed.inner, field)) is type(value)


def test_text_may_hold_an_equals_sign_and_spaces() -> None:
    assert with_assignments(Outer(), ["name=a = b"]).name == "a = b"


@dataclass(frozen=True)
class Multiple:
    batch: int = 8
    ppo_mini_batch_size: int = 8

    def __post_init__(self) -> None:
        if self.batch % self.ppo_mini_batch_size:
            raise UserError("not a multiple")


def test_values_that_only_fit_together_can_be_set_together() -> None:
    assert with_assignments(Multiple(), ["batch=6", "ppo_mini_batch_size=6"]) == Multiple(6, 6)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("inner.stpes=1", "--set inner.stpes: there is no setting 'stpes'; did you mean 'steps'?"),
        ("inner.steps=many", "--set inner.steps: expected int, got 'many'"),
        ("inner.flag=maybe", "--set inner.flag: expected true or false, got 'maybe'"),
        ("inner=3", "--set inner: that is a group of settings; set one of inner.rate, inner.steps, inner.flag, "
                    "inner.kinds, inner.limit"),
        ("name.x=3", "--set name.x: 'name' is a single value without parts"),
        ("name.rate=3", "--set name.rate: 'name' is a single value without parts; did you mean inner.rate?"),
        ("rate=3", "--set rate: there is no setting 'rate'; did you mean inner.rate?"),
        ("steps", "--set steps: expected NAME=VALUE, for example --set STAGE.learning_rate=1e-6"),
    ],
)  # fmt: skip
def test_the_sentences_about_bad_assignments(assignment: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        with_assignments(Outer(), [assignment])
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("table", "code", "sentence"),
    [
        ({"nmae": "x"}, "settings.unknown-name", "site.toml: unknown key 'nmae'; did you mean 'name'?"),
        ({"inner": 3}, "settings.wrong-type", "site.toml: inner: expected a table, got 3"),
        ({"inner": {"steps": True}}, "settings.wrong-type", "site.toml: inner: steps: expected int, got True"),
        ({"name": "a\nb"}, "", ""),
    ],
)
def test_a_table_is_read_strictly(table: dict, code: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        from_table(Outer, table, "site.toml")
    assert not code or (caught.value.code, str(caught.value)) == (code, sentence)


def test_a_bad_assignment_has_a_code_and_values() -> None:
    with refused("settings.unknown-name", name="rate", path="rate"):
        with_assignments(Outer(), ["rate=3"])
    with refused("settings.wrong-type", expected="int", value="many"):
        with_assignments(Outer(), ["inner.steps=many"])


@dataclass(frozen=True)
class Shape:
    kind: str = field(default="", init=False)
    colour: str = "red"


@dataclass(frozen=True)
class Square(Shape):
    kind: str = field(default="square", init=False)
    side: int = 1


@dataclass(frozen=True)
class Circle(Shape):
    kind: str = field(default="circle", init=False)
    radius: float = 1.0


SHAPES: Mapping[str, type[Shape]] = {"square": Square, "circle": Circle}


@dataclass(frozen=True)
class Drawing:
    shape: Shape = chosen_from(SHAPES, "square")


@pytest.mark.parametrize(
    ("assignments", "shape"),
    [
        ([], Square()),
        (["shape.side=3"], Square(side=3)),
        (["shape=circle"], Circle()),
        (["shape=circle", "shape.radius=2.5"], Circle(radius=2.5)),
        (["shape.radius=2.5", "shape=circle", "shape.colour=blue"], Circle(colour="blue", radius=2.5)),
    ],
)
def test_a_record_is_chosen_by_name_and_its_options_are_set_in_any_order(assignments: list[str], shape: Shape) -> None:
    drawing = with_assignments(Drawing(), assignments)
    assert drawing == Drawing(shape)
    assert from_table(Drawing, asdict(drawing), "o.json") == drawing


def test_choosing_what_is_chosen_already_keeps_its_options() -> None:
    assert with_assignments(Drawing(Square(side=3)), ["shape=square"]) == Drawing(Square(side=3))


@pytest.mark.parametrize(
    ("assignments", "code", "values"),
    [
        (["shape=oval"], "settings.unknown-name", {"name": "oval", "known": ["square", "circle"]}),
        (["shape.radius=1"], "settings.unknown-name", {"path": "shape.radius", "known": ["colour", "side"]}),
        (["shape=circle", "shape.side=1"], "settings.unknown-name", {"path": "shape.side"}),
        (["shape.kind=circle"], "settings.unknown-name", {"path": "shape.kind"}),
        (["shape.=circle"], "settings.unknown-name", {"path": "shape."}),
        (["shape.colour.x=1"], "settings.not-a-group", {"path": "shape.colour.x"}),
    ],
)
def test_a_bad_choice_is_refused(assignments: list[str], code: str, values: dict) -> None:
    with refused(code, **values):
        with_assignments(Drawing(), assignments)


@pytest.mark.parametrize("shape", ["circle", {}, {"kind": 3}, {"radius": 1.0}])
def test_a_table_without_the_kind_of_its_record_is_refused(shape: object) -> None:
    with refused("settings.wrong-type", value=shape):
        from_table(Drawing, {"shape": shape}, "o.json")
