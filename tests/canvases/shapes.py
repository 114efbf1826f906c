"""Chains, groups and chords in each other."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from tests.canvases.table import WITHIN, canvas
from tests.canvases.tasks import add, echo, total


@canvas
def a_chain() -> Any:
    return chain(add.s(1, 2), add.s(3), add.s(4)).delay().get(timeout=WITHIN)


@canvas
def a_group() -> Any:
    return group(add.s(i, i) for i in range(4)).delay().get(timeout=WITHIN)


@canvas
def a_group_in_a_group() -> Any:
    return group(echo.s(1), group(echo.s(2), echo.s(3))).delay().get(timeout=WITHIN)


@canvas
def a_chord() -> Any:
    return chord([add.s(i, i) for i in range(5)], total.s()).delay().get(timeout=WITHIN)


@canvas
def a_chord_of_one() -> Any:
    return chord([echo.s(1)], echo.s()).delay().get(timeout=WITHIN)


@canvas
def two_groups_in_a_row_and_a_task() -> Any:
    steps = echo.si(1) | group(add.s(1), add.s(1)) | group(total.s(), total.s()) | total.s()
    return steps.delay().get(timeout=WITHIN)


@canvas
def three_groups_in_a_row_and_two_tasks() -> Any:
    twice = group(total.s(), total.s())
    steps = echo.si(1) | group(add.s(1), add.s(1)) | twice | twice.clone() | total.s() | add.s(1)
    return steps.delay().get(timeout=WITHIN)


@canvas
def a_chain_with_a_group_at_its_end() -> Any:
    return chain(echo.s(3), group(add.s(1), add.s(2))).delay().get(timeout=WITHIN)


@canvas
def a_group_in_the_middle_of_a_chain() -> Any:
    return chain(echo.s(3), group(add.s(1), add.s(2)), total.s(), echo.s()).delay().get(timeout=WITHIN)


@canvas
def two_groups_in_a_row() -> Any:
    return chain(group(echo.s(1), echo.s(2)), group(echo.s(), echo.s())).delay().get(timeout=WITHIN)


@canvas
def a_header_of_chains_that_end_in_groups() -> Any:
    header = [echo.s(1), chain(echo.s(2), group(echo.s(), echo.s())), chain(echo.s(3), group(echo.s(), echo.s()))]
    return chord(header, echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_header_with_a_group_in_it() -> Any:
    return chord([echo.s(1), group(echo.s(2), group(echo.s(3)))], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_header_of_chains() -> Any:
    return chord([chain(echo.s(i), add.s(1)) for i in range(3)], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_chord_in_a_header() -> Any:
    return chord([echo.s(0), chord([echo.s(1), echo.s(2)], echo.s())], echo.s()).delay().get(timeout=WITHIN)


@canvas
def a_group_of_chains_of_groups() -> Any:
    inner = [chain(echo.s(i), group(add.s(1), add.s(2))) for i in range(2)]
    return group(inner).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_a_chain() -> Any:
    return chord([echo.s(1), echo.s(2)], chain(total.s(), add.s(10))).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_a_group() -> Any:
    return chord([echo.s(1), echo.s(2)], group(total.s(), echo.s())).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_a_chord() -> Any:
    return chord([echo.s(1), echo.s(2)], chord([total.s(), total.s()], total.s())).delay().get(timeout=WITHIN)


@canvas
def chunks() -> Any:
    return add.chunks(zip(range(6), range(6), strict=True), 2).group().delay().get(timeout=WITHIN)


@canvas
def a_map() -> Any:
    return total.map([[1, 2], [3]]).delay().get(timeout=WITHIN)


@canvas
def a_starmap() -> Any:
    return add.starmap([(1, 2), (3, 4)]).delay().get(timeout=WITHIN)


@canvas
def a_group_that_is_restored() -> Any:
    result = group(echo.s(1), echo.s(2)).delay()
    result.save()
    restored = type(result).restore(result.id, app=echo.app)
    return [restored == result, restored.get(timeout=WITHIN)]


@canvas
def a_long_chain() -> Any:
    return chain(echo.s(0), *[add.s(1)] * 100).delay().get(timeout=WITHIN)


@canvas
def a_wide_chord() -> Any:
    return chord([echo.s(i) for i in range(150)], total.s()).delay().get(timeout=WITHIN)
