"""What is refused of a workflow before any job is made: all of it, with its place."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.workflowing import node
from tracking.errors import InvalidValue
from tracking.workflows.graph import Problem, following, in_order, problems
from tracking.workflows.references import filled
from tracking.workflows.values import MOST_JOBS


def told(*nodes: Any) -> list[tuple[str, str]]:
    """The problems of these jobs."""
    return [(each.place, each.message) for each in problems(nodes)]


def test_jobs_that_wait_for_earlier_ones_are_fit() -> None:
    """A graph without a cycle has no problems, and its order has each job after what it waits for."""
    nodes = [node("d", "b", "c"), node("b", "a"), node("c", "a!"), node("a")]
    assert told(*nodes) == []
    order = [each.key for each in in_order(nodes)]
    assert order.index("a") < min(order.index("b"), order.index("c"))
    assert order[-1] == "d"
    assert following(in_order(nodes), ["b"]) == {"b", "d"}


def test_every_problem_is_told_with_its_place() -> None:
    """Unknown keys, one that is waited for twice, and every cycle are told of at once."""
    found = told(
        node("a", "b"),
        node("b", "a"),
        node("c", "c"),
        node("d", "nobody", "a", "a"),
        node("e", payload={"x": {"$from": "a"}}),
    )
    assert ("jobs.d.after.0.key", "there is no job 'nobody' in this workflow") in found
    assert ("jobs.d.after.2.key", "it waits for 'a' already") in found
    assert ("jobs.c.after", "they wait for each other: c → c") in found
    cycles = [message for place, message in found if "each other" in message]
    assert len(cycles) == 2
    assert {"they wait for each other: a → b → a", "they wait for each other: b → a → b"} & set(cycles)


def test_a_long_cycle_is_told_as_it_is_waited_for() -> None:
    """A cycle is told in the order in which each job waits for the next one."""
    [(place, message)] = told(node("a", "c"), node("b", "a"), node("c", "b"))
    way = message.removeprefix("they wait for each other: ").split(" → ")
    assert place == f"jobs.{way[0]}.after"
    waits = {"a": "c", "b": "a", "c": "b"}
    assert all(waits[one] == other for one, other in pairwise(way))


def test_too_many_jobs_are_refused() -> None:
    """A workflow with a job too many is refused with both numbers, and so is one that waits for too many."""
    [(place, message)] = told(*(node(f"n{number}") for number in range(MOST_JOBS + 1)))
    assert (place, message) == ("jobs", f"a workflow has {MOST_JOBS} jobs at most, not {MOST_JOBS + 1}")
    many = [node(f"n{number}") for number in range(101)]
    assert told(*many, node("z", *(each.key for each in many))) == [
        ("jobs.z.after", "a job waits for 100 others at most, not 101")
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"$from": "a", "path": "result/rows"}, "path must begin with one of /jobId, /status, /result"),
        ({"$from": "a", "path": ""}, "path must begin with one of"),
        ({"$from": "a", "path": "/results"}, "path must begin with one of"),
        ({"$from": "a", "path": "/result/~2"}, "JSON Pointer"),
        ({"$from": "a", "path": "/result/" + 500 * "x"}, "JSON Pointer of at most 500 characters"),
        ({"$from": "a", "path": 5}, "JSON Pointer"),
        ({"$from": 5}, "$from must be the key of a job"),
        ({"$from": "a", "default": 1}, "beside $from there may only be path"),
        ({"$from": "nobody"}, "there is no job 'nobody' in this workflow"),
        ({"$from": "late"}, "'b' does not wait for 'late', whose result may not be there then"),
        ({"$from": "b"}, "'b' does not wait for 'b'"),
    ],
)
def test_what_is_no_reference_is_told_with_its_place(value: Any, message: str) -> None:
    """A path that is no JSON Pointer into what a job tells, or a job that is not waited for, is refused."""
    nodes = [node("a"), node("late"), node("b", "a", payload={"list": [1, {"deep": value}]})]
    [problem] = problems(nodes)
    assert problem.place == "jobs.b.payload.list.1.deep"
    assert message in problem.message


def test_a_job_may_take_values_of_what_it_waits_for_through_others() -> None:
    """A value may come from a job that is two steps before."""
    assert problems([node("a"), node("b", "a"), node("c", "b", payload={"x": {"$from": "a"}})]) == []
    assert isinstance(problems([node("a", "z")])[0], Problem)


def test_values_are_filled_in_as_json_pointers_say() -> None:
    """Members, elements and escaped names are followed, and a value may be of any kind."""
    told_of = {"a": {"jobId": "j", "result": {"rows": [{"a/b": 1, "m~n": [True, None]}], "": "empty", "0": "zero"}}}
    payload = {
        "one": {"$from": "a", "path": "/result/rows/0/a~1b"},
        "list": [{"$from": "a", "path": "/result/rows/0/m~0n"}, {"x": {"$from": "a", "path": "/jobId"}}],
        "whole": {"$from": "a"},
        "empty": {"$from": "a", "path": "/result/"},
        "zero": {"$from": "a", "path": "/result/0"},
        "plain": {"from": "a"},
    }
    assert filled(payload, told_of) == {
        "one": 1,
        "list": [[True, None], {"x": "j"}],
        "whole": told_of["a"]["result"],
        "empty": "empty",
        "zero": "zero",
        "plain": {"from": "a"},
    }


NOWHERE = ("/result/rows/1", "/result/rows/-", "/result/rows/00", "/result/x", "/result/rows/0/a")


@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_that_leads_nowhere_says_where_it_ended(path: str) -> None:
    """What is not in the result is told with the place in the payload, the path, and the job."""
    with pytest.raises(InvalidValue, match=r"^payload\.x\.0: there is no /result/.* in the job 'a'$"):
        filled({"x": [{"$from": "a", "path": path}]}, {"a": {"result": {"rows": [1]}}})
