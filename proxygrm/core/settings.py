"""Builds settings records from TOML or JSON tables and from `--set a.b=c`, typed, with a suggestion for misspelt names.

Records are frozen dataclasses; groups of settings are records inside them. A field made by `chosen_from` holds a record
of a registry: `a.b=NAME` chooses it, `a.b.option=VALUE` sets its options, in any order.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Collection, Hashable, Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from proxygrm.core.errors import UserError
from proxygrm.core.one_line import refuse_control

T = TypeVar("T")
Fields = Collection[tuple[Any, str]]
"""(record, name of its field)."""


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that looks most like it; "" where none does."""
    return next(iter(difflib.get_close_matches(name, known, 1)), "")


def did_you_mean(name: str, known: Collection[str], else_known: str = "") -> str:
    """ "did you mean 'x'?", or what there is. else_known: text to use instead of the list of names."""
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else else_known or f"there are {', '.join(known)}"


def require_known(name: str, known: Collection[str], where: str, what: str = "setting") -> str:
    """The name. Raises UserError (settings.unknown-name) with the nearest known one."""
    if name not in known:
        raise UserError(
            f"{where}: unknown {what} {name!r}; {did_you_mean(name, known)}",
            code="settings.unknown-name",
            name=name,
            near=nearest(name, known),
            known=list(known),
        )
    return name


CHOICES = "choices"
VALUE = None
"""Key of the value itself beside its parts, of assignments such as `a=gspo` and `a.clip_ratio_high=0.3`."""


AFTERWARDS = {"afterwards": True}
"""Metadata of a field that is about what comes after the work, or where it is done: another value does not make
finished work invalid."""


def chosen_from(registry: Mapping[str, type[T]], default: str) -> T:
    """A dataclass field that holds a record of a registry. Each of its kinds has a field `kind`, its name there:
    `kind: str = field(default="gspo", init=False)`. It cannot be set, and tells records with equal options apart."""
    return dataclasses.field(default_factory=registry[default], metadata={CHOICES: registry})


def in_registry(name: str, registry: Mapping[str, type[T]], where: str, what: str) -> type[T]:
    """The kind of that name, in which a hyphen is as good as an underscore. Raises UserError: settings.unknown-name."""
    alike = name.replace("-", "_")
    return registry[alike if alike in registry else require_known(name, registry, where, what)]


def values_of(record: Any, kind: type[Any]) -> dict[str, Any]:
    """What a record has for each field of a dataclass, of which it is a subclass or may become one."""
    return {each.name: getattr(record, each.name) for each in dataclasses.fields(kind)}


def from_table(kind: type[T], table: Mapping[str, Any], where: str, tabs: Fields = ()) -> T:
    """A record of `kind` from a table. where: file or section, for messages. tabs: fields whose texts may have tabs.

    Raises UserError: settings.unknown-name, settings.wrong-type.
    """
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    entries = {entry.name: entry for entry in dataclasses.fields(kind) if entry.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        refuse_control(key, where)
        require_known(key, entries, where, "key")
        hint, place = hints[key], f"{where}: {key}"
        if choices := entries[key].metadata.get(CHOICES):
            if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
                raise _wrong_type(place, "a table with its kind", value)
            options = {name: option for name, option in value.items() if name != "kind"}
            values[key] = from_table(in_registry(value["kind"], choices, place, key), options, place, tabs)
            continue
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise _wrong_type(place, "a table", value)
            values[key] = from_table(hint, value, place, tabs)  # type: ignore[arg-type]
        else:
            values[key] = _from_value(hint, value, place, "\t" if (kind, key) in tabs else "")
    return kind(**values)


def _from_value(hint: Any, value: Any, where: str, allowed: str) -> Any:
    """allowed: control characters that texts may have."""
    origin = get_origin(hint) or hint
    accepted = (int, float) if origin is float else origin
    if not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool):
        raise _wrong_type(where, getattr(origin, "__name__", str(origin)), value)
    inner = get_args(hint)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for item in items:
        if not isinstance(item, get_origin(inner[-1]) or inner[-1]):
            raise _wrong_type(where, f"{inner[-1].__name__} values", item)
    for text in [value, *items, *(value if isinstance(value, dict) else ())]:
        if isinstance(text, str):
            refuse_control(text, where, allowed)
    return value


def with_assignments(record: T, assignments: Iterable[str]) -> T:
    """A copy with every `path=value` applied at once; the right-hand side is JSON or plain text.

    At once, because a record may refuse a state that exists only between two assignments. Raises UserError:
    settings.no-value, settings.unknown-name, settings.is-a-group, settings.not-a-group, settings.wrong-type.
    """
    tree: dict[str | None, Any] = {}  # as `_with_changes` takes it
    for assignment in assignments:
        path, sign, text = (part.strip() for part in assignment.partition("="))
        if not sign:
            raise UserError(
                f"--set {assignment}: expected NAME=VALUE, for example --set STAGE.learning_rate=1e-6",
                code="settings.no-value",
                name=assignment,
            )
        refuse_control(assignment, f"--set {path}")  # also those of an ablation spec
        branch = tree
        for key in path.split("."):
            branch = branch.setdefault(key, {})
        branch[VALUE] = text
    return _with_changes(record, tree, "")


def _with_changes(record: Any, changes: Mapping[Any, Any], where: str) -> Any:
    """changes: by the name of a field, VALUE -> its text, or changes of its parts by name."""
    entries = {entry.name: entry for entry in dataclasses.fields(record) if entry.init}
    hints = _hints(type(record))  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, change in changes.items():
        path = f"{where}{key}"
        if key not in entries:
            hint = _in_groups(record, key, where) or did_you_mean(key, entries)
            raise UserError(
                f"--set {path}: there is no setting {key!r}; {hint}",
                code="settings.unknown-name",
                name=key,
                path=path,
                known=list(entries),
            )
        old = getattr(record, key)
        text, parts = change.get(VALUE), {part: inner for part, inner in change.items() if part is not VALUE}
        if choices := entries[key].metadata.get(CHOICES):
            if text is not None:
                chosen = in_registry(text, choices, f"--set {path}", key)
                old = old if type(old) is chosen else chosen()
            values[key] = _with_changes(old, parts, f"{path}.")
            continue
        group = dataclasses.is_dataclass(old)
        if parts and not group:
            part = next(iter(parts))
            hint = _in_groups(record, part, where)
            why = "is not used by this stage" if old is None else "is a single value without parts"
            raise UserError(
                f"--set {path}.{part}: {key!r} {why}{'; ' * bool(hint)}{hint}",
                code="settings.not-a-group",
                name=key,
                path=f"{path}.{part}",
            )
        if group and text is not None:
            inner = [f"{path}.{entry.name}" for entry in dataclasses.fields(old)]
            raise UserError(
                f"--set {path}: that is a group of settings; set one of {', '.join(inner)}",
                code="settings.is-a-group",
                path=path,
                known=inner,
            )
        values[key] = _with_changes(old, parts, f"{path}.") if group else _from_text(text, hints[key], old, path)
    return dataclasses.replace(record, **values)


def _in_groups(record: Any, name: str, where: str) -> str:
    """The groups of a record that have a setting of this name, as a hint; "" for none. where: path of the record."""
    values = {entry.name: getattr(record, entry.name) for entry in dataclasses.fields(record)}
    groups = {key: value for key, value in values.items() if dataclasses.is_dataclass(value)}
    paths = [f"{where}{key}.{name}" for key, group in groups.items() if hasattr(group, name)]
    return f"did you mean {' or '.join(paths)}?" if paths else ""


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    """Read once: an ablation sets the same few values for each of its many cells."""
    return get_type_hints(kind)


def _from_text(text: str, hint: Any, old: Any, path: str) -> Any:
    """`text` as the field's type; the type of the present value decides between the members of a union."""
    kind = str(hint)
    if text.lower() in {"none", "null"} and "None" in kind:
        return None
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise _wrong_type(f"--set {path}", f"one of {', '.join(map(str, get_args(hint)))}", text)
        return text
    try:
        if isinstance(old, bool) or hint is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if isinstance(old, int) or (old is None and "int" in kind):
            return int(text)
        if isinstance(old, float) or (old is None and "float" in kind):
            return float(text)
        if isinstance(old, tuple):
            items = json.loads(text) if text.startswith("[") else [part for part in text.split(",") if part]
            return tuple(items)
    except (ValueError, KeyError):
        expected = "true or false" if isinstance(old, bool) else type(old).__name__
        raise _wrong_type(f"--set {path}", expected, text) from None
    return text


def _wrong_type(where: str, expected: str, value: Any) -> UserError:
    return UserError(
        f"{where}: expected {expected}, got {value!r}", code="settings.wrong-type", expected=expected, value=value
    )
