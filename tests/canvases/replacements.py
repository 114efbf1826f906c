"""Jobs that other canvases take the place of, and members that join a chord."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from tests.canvases.table import WITHIN, canvas, raised, typed
from tests.canvases.tasks import (
    add,
    again,
    count_down,
    echo,
    join,
    refuse,
    replace,
    replace_after,
    replace_after_total,
    replace_later,
    total,
    types,
)
from tests.canvases.values import VALUE


@canvas
def replaced_by_a_task() -> Any:
    result = replace.delay(add.s(1, 2))
    return [result.get(timeout=WITHIN), result.state]


@canvas
def replaced_by_a_chain() -> Any:
    return replace.delay(chain(add.s(1, 2), add.s(3), add.s(4))).get(timeout=WITHIN)


@canvas
def replaced_by_a_group() -> Any:
    return replace.delay(group(add.s(1, 2), add.s(3, 4))).get(timeout=WITHIN)


@canvas
def replaced_by_a_chord() -> Any:
    return replace.delay(chord([add.s(1, 2), add.s(3, 4)], total.s())).get(timeout=WITHIN)


@canvas
def replaced_by_a_chain_that_ends_in_a_group() -> Any:
    return replace.delay(chain(echo.s(1), group(add.s(1), add.s(2)))).get(timeout=WITHIN)


@canvas
def replaced_by_a_chain_with_a_group_in_it() -> Any:
    return replace.delay(chain(echo.s(1), group(add.s(1), add.s(2)), total.s())).get(timeout=WITHIN)


@canvas
def replaced_by_itself_again_and_again() -> Any:
    return count_down.delay(5).get(timeout=WITHIN)


@canvas
def replaced_after_a_retry() -> Any:
    return replace_later.delay(chain(add.s(1, 2), add.s(3))).get(timeout=WITHIN)


@canvas
def replaced_by_a_task_that_is_retried() -> Any:
    return replace.delay(again.s(1, 2)).get(timeout=WITHIN)


@canvas
def replaced_at_the_beginning_of_a_chain() -> Any:
    return chain(replace.s(add.s(1, 2)), add.s(10), add.s(100)).delay().get(timeout=WITHIN)


@canvas
def replaced_within_a_chain() -> Any:
    result = chain(echo.s(1), replace_after.s(), add.s(100)).delay()
    return [result.get(timeout=WITHIN), result.parent.get(timeout=WITHIN)]


@canvas
def replaced_by_a_group_within_a_chain() -> Any:
    return chain(echo.s(1), replace.si(group(echo.s(1), echo.s(2))), total.s(), add.s(1)).delay().get(timeout=WITHIN)


@canvas
def replaced_by_a_chord_within_a_chain() -> Any:
    inner = chord([add.s(1, 2), add.s(3, 4)], total.s())
    return chain(echo.s(1), replace.si(inner), add.s(1)).delay().get(timeout=WITHIN)


@canvas
def replaced_at_the_end_of_a_chain() -> Any:
    return chain(echo.s(1), replace_after.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_in_a_group() -> Any:
    return group(echo.s(1), replace.s(add.s(1, 2)), replace.s(chain(echo.s(3), add.s(1)))).delay().get(timeout=WITHIN)


@canvas
def replaced_in_a_header() -> Any:
    header = [echo.s(1), replace.s(add.s(1, 2)), replace.s(chain(echo.s(3), add.s(1)))]
    return chord(header, echo.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_by_groups_and_chords_in_a_header() -> Any:
    header = [replace.s(group(echo.s(1), echo.s(2))), echo.s(3), replace.s(chord([echo.s(4), echo.s(5)], total.s()))]
    return chord(header, echo.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_in_a_chain_in_a_header() -> Any:
    header = [chain(echo.s(1), replace_after.s(), add.s(100)), chain(echo.s(2), replace_after.s())]
    return chord(header, total.s()).delay().get(timeout=WITHIN)


@canvas
def a_body_that_is_replaced() -> Any:
    return chord([echo.s(1), echo.s(2)], replace_after_total.s()).delay().get(timeout=WITHIN)


@canvas
def replaced_with_a_link() -> Any:
    result = replace.apply_async((add.s(1, 2),), link=add.s(10))
    return [result.get(timeout=WITHIN), [child.get(timeout=WITHIN) for child in result.children]]


@canvas
def a_replacement_that_fails() -> Any:
    return raised(replace.delay(refuse.s(number=5)))


@canvas
def a_replacement_that_fails_within_a_chain() -> Any:
    result = chain(replace.s(chain(echo.s(1), refuse.s(number=5), echo.s())), echo.s()).delay()
    return [raised(echo.AsyncResult(result.parent.id)), raised(echo.AsyncResult(result.id))]


@canvas
def a_replacement_that_fails_in_a_header() -> Any:
    result = chord([echo.s(1), replace.s(chain(echo.s(2), refuse.s()))], total.s()).delay()
    answer = raised(echo.AsyncResult(result.id))
    return [*answer[:2], answer[3]]


@canvas
def types_through_a_replacement() -> Any:
    return replace.delay(types.s(VALUE, more=VALUE)).get(timeout=WITHIN)


@canvas
def joined_to_a_chord() -> Any:
    return chord([join.s(echo.s(5)), echo.s(1), join.s(echo.s(7))], total.s()).delay().get(timeout=WITHIN)


@canvas
def joined_to_a_chord_by_a_chain() -> Any:
    return chord([join.s(chain(echo.s(5), add.s(6))), echo.s(1)], total.s()).delay().get(timeout=WITHIN)


@canvas
def joined_to_a_chord_by_a_chord() -> Any:
    wanted = chord([echo.s(5), echo.s(6)], total.s())
    return chord([join.s(wanted), echo.s(1)], total.s()).delay().get(timeout=WITHIN)


@canvas
def joined_to_a_chord_by_a_chain_with_a_chord_in_it() -> Any:
    wanted = chain(echo.s(5), group(add.s(1), add.s(2)), total.s(), add.s(100))
    return chord([join.s(wanted), echo.s(1)], total.s()).delay().get(timeout=WITHIN)


@typed(12)  # plain Celery counts one member, and gives a part of them
def joined_to_a_chord_by_a_group() -> Any:
    return chord([join.s(group(echo.s(5), echo.s(6))), echo.s(1)], total.s()).delay().get(timeout=WITHIN)


@typed(24)  # as above
def joined_to_a_chord_by_a_chain_that_ends_in_a_group() -> Any:
    wanted = chain(echo.s(5), group(add.s(6), add.s(7)))
    return chord([join.s(wanted), echo.s(1)], total.s()).delay().get(timeout=WITHIN)
