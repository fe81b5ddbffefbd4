"""Coroutines that run together end with the error that one of them raised, on every Python the suite supports."""

from __future__ import annotations

import ast
import asyncio

import pytest

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.together import run_together
from support.rows.source_files import OURS, parsed


async def fails(error: Exception) -> None:
    raise error


async def waits_for_ever(seen: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        seen.append("cancelled")


def test_all_of_them_are_done_when_nothing_fails() -> None:
    done: list[int] = []

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    asyncio.run(run_together(one(number) for number in range(5)))
    assert done == [0, 1, 2, 3, 4]
    asyncio.run(run_together([]))


@pytest.mark.parametrize("error", [UserError("the key is refused"), OSError(28, "no space"), ValueError("a bug")])
def test_the_error_of_one_comes_out_as_it_was_raised_and_the_others_are_cancelled(error: Exception) -> None:
    seen: list[str] = []
    with pytest.raises(type(error)) as caught:
        asyncio.run(run_together([waits_for_ever(seen), fails(error), waits_for_ever(seen)]))
    assert caught.value is error
    assert seen == ["cancelled", "cancelled"]


def test_of_several_user_errors_the_first_comes_out() -> None:
    first, second = UserError("first"), UserError("second")
    with pytest.raises(UserError) as caught:
        asyncio.run(run_together([fails(first), fails(second)]))
    assert caught.value is first


def test_no_error_is_hidden_where_something_else_failed_beside_a_user_error() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run_together([fails(UserError("full")), fails(ZeroDivisionError("a bug"))]))
    assert sorted(type(one).__name__ for one in caught.value.exceptions) == ["UserError", "ZeroDivisionError"]


def test_task_groups_are_used_in_one_place_and_nothing_catches_with_except_star() -> None:
    """Before 3.11.4 an exception that is raised inside `except*` is wrapped in an ExceptionGroup again."""
    groups, stars = [], []
    for name, tree in parsed(*OURS, "tests", "benchmarks"):
        for node in ast.walk(tree):
            if isinstance(node, ast.TryStar):
                stars.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.Attribute) and node.attr == "TaskGroup":
                groups.append(name)
    assert stars == []
    assert groups == ["proxygrm/core/runtime/together.py"]
