"""docs/monitoring: dashboard, alerts and autoscaling ask for metrics that there are, and mean what they say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from api.families import OfRows
from api.live.hub import Hub
from api.live.reader import HELD, Reader
from api.metrics import Metrics
from api.routes.health import router
from celeriac.commands.cli import command as celeriac
from tasks.app import app
from tracking.reads.measured import MOST_READ, Active, By, Circuits, Measured, Served
from tracking.settings import Settings
from tracking.totals import Measure, Total

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "docs" / "monitoring"
ALERTS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
SCALED, HORIZONTAL = yaml.safe_load_all((MONITORING / "autoscaling.yaml").read_text())
SELECTED = re.compile(r"(celeriac_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"(?:by|ignoring|on)\s*\(([^)]*)\)")
SECONDS = {"s": 1, "m": 60, "h": 3600}

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
    **{f"{panel['title']} {each['refId']}": each["expr"] for panel in PANELS for each in panel["targets"]},
    "KEDA": SCALED["spec"]["triggers"][0]["metadata"]["query"],
}

EVERYTHING = Measured(
    active={
        **{by: [Active("some", 1, 1, 1, 3, timedelta(seconds=1))] for by in By},
        By.HOLD: [Active("limit", 0, 1, 0, 1, None)],
    },
    is_capped=False,
    served=[Served("some", 1, 4)],
    alive=1,
    silent=0,
    circuits=[Circuits("some", is_half_open=is_half, number=1) for is_half in (False, True)],
    is_led=True,
    unsent=1,
    oldest_unsent=timedelta(seconds=1),
    totals=[
        Total(measure, "some", "some", outcome, 1.0, 1, 0.5)
        for measure, outcomes in {
            Measure.CREATED: [""],
            Measure.ENDED: ["succeeded", "failed", "cancelled"],
            Measure.ATTEMPTS: ["succeeded", "failed", "retried", "cancelled", "lost", "released"],
            Measure.REFUSED: ["running"],
            Measure.WAITED: [""],
            Measure.RAN: [""],
        }.items()
        for outcome in outcomes
    ],
    uncounted=0,
)


def families() -> list[Metric]:
    """The real metrics, each with a sample of every state and outcome."""
    platform = app.platform
    pools = dict.fromkeys(("main", "slow_reads", "replica"), platform.database)
    metrics = Metrics(platform, platform.database, Reader(platform.settings, Hub(1)), pools)
    for status in (200, 404, 503, None):
        metrics.answered({"type": "http", "method": "GET", "route": router.routes[0]}, status, 0.1)
    metrics.answered({"type": "http", "method": "GET"}, 404, 0.1)
    registry = CollectorRegistry()
    registry.register(OfRows(EVERYTHING, organizations=True))
    return [*registry.collect(), *metrics._own.collect()]


REAL: dict[str, dict[str, set[str]]] = {}  # the values of each label of each name
for _sample in (sample for family in families() for sample in family.samples):
    _labels = REAL.setdefault(_sample.name, {})
    for _name, _value in _sample.labels.items():
        _labels.setdefault(_name, set()).add(_value)


def free(label: str) -> bool:
    """Whether anything can be its value."""
    return label in ("queue", "type", "organization", "route", "method", "le", "reason")


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_expressions_name_metrics_labels_and_values_that_there_are(where: str) -> None:
    """Each metric exists under this name, has these labels, and those of few values have had this one."""
    expression = EXPRESSIONS[where]
    assert expression.count("(") == expression.count(")")
    selected = SELECTED.findall(expression)
    assert selected
    for name, matchers in selected:
        assert name in REAL, name
        for label, operator, value in MATCHER.findall(matchers):
            assert label in REAL[name], (name, label)
            if not free(label):
                assert set(value.split("|") if operator == "=~" else [value]) <= REAL[name][label]
    names = [name for name, _ in selected]
    for group in GROUPED.findall(expression):
        for label in filter(None, (each.strip() for each in group.split(","))):
            assert any(label in REAL[name] for name in names), label


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_what_all_processes_say_alike_is_not_added_up(where: str) -> None:
    """A metric of the rows stands within a `max`, as every API process shows it; one of a process does not have to."""
    expression, own = EXPRESSIONS[where], ("http_request", "dispatch_backlog", "tail_lag", "database_connections")
    for found in SELECTED.finditer(expression):
        if not any(found[1].startswith(f"celeriac_{name}") for name in own) and "absent" not in expression:
            before = expression[: found.start()]
            inner = re.findall(r"(max|sum)(?: by \([^)]*\))? \(|(max|sum)\(", before)
            assert inner, expression
            assert "max" in inner[-1], expression


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_reason_and_a_command_that_there_is(rule: dict[str, Any]) -> None:
    """Each alert says what is wrong, why that matters and the first command to type, which the command line takes."""
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "reason", "command"}
    program, *arguments = rule["annotations"]["command"].split()
    assert program == "celeriac"
    name, *options = arguments
    command = celeriac.get_command(click.Context(celeriac), name)
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts}
    assert {option for option in options if option.startswith("-")} <= known
    assert f"| `{rule['alert']}` |" in (ROOT / "docs" / "metrics.md").read_text()


def threshold(alert: str) -> float:
    """What the last comparison of an alert compares with."""
    [rule] = [rule for rule in ALERTS if rule["alert"] == alert]
    return float(re.findall(r"(?:>=|==|>)\s*([\d.]+)\s*$", rule["expr"].strip())[0])


def patience(alert: str) -> float:
    """For how many seconds it has to be so."""
    [rule] = [rule for rule in ALERTS if rule["alert"] == alert]
    return int(rule["for"][:-1]) * SECONDS[rule["for"][-1]]


def test_thresholds_are_beyond_what_is_usual() -> None:
    """What the platform mends by itself within its own times raises no alert."""
    defaults = Settings()
    assert (
        patience("CeleriacNoLeader") > 10 + 2
    )  # LEADER_SILENCE and an election: a leader that dies is followed by another
    assert patience("CeleriacQueueUnserved") > 2 * defaults.lease_timeout
    assert threshold("CeleriacMessagesNotSent") > defaults.resend_after
    assert threshold("CeleriacEventsLate") > HELD
    assert f"{MOST_READ:,} jobs" in next(
        rule["annotations"]["summary"] for rule in ALERTS if rule["alert"] == "CeleriacNumbersCapped"
    )
    assert 0 < threshold("CeleriacTypeFails") < 1


def test_a_type_has_each_outcome_from_its_first_job_on() -> None:
    """A type that was created only has zeros of what may come: Prometheus sees no increase in what begins at five."""
    only = [Total(Measure.CREATED, "some", "some", "", 1.0, 1, 0.0)]
    registry = CollectorRegistry()
    registry.register(OfRows(replace(EVERYTHING, totals=only), organizations=False))
    samples = {
        (sample.name, sample.labels["outcome"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if "outcome" in sample.labels
    }
    asked = {
        (name, value)
        for expression in EXPRESSIONS.values()
        for name, matchers in SELECTED.findall(expression)
        for label, _, values in MATCHER.findall(matchers)
        for value in values.split("|")
        if label == "outcome"
    }
    assert asked <= samples.keys()
    assert set(samples.values()) == {0}


def test_the_panels_lie_beside_each_other() -> None:
    """Panels of the dashboard have ids of their own, lie within its 24 columns, and none lies upon another."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    for panel in PANELS:
        for name in re.findall(r"{{(\w+)}}", " ".join(each["legendFormat"] for each in panel["targets"])):
            assert name == "instance" or any(
                name in REAL[metric] for each in panel["targets"] for metric, _ in SELECTED.findall(each["expr"])
            )


def test_every_metric_of_jobs_is_somewhere_on_the_dashboard() -> None:
    """No metric is left out of the dashboard and the alerts."""
    shown = {name for expression in EXPRESSIONS.values() for name, _ in SELECTED.findall(expression)}
    ends = re.compile(r"_(bucket|count|sum|created)$")
    assert {ends.sub("", name) for name in REAL} <= {ends.sub("", name) for name in shown}


def test_autoscaling_keeps_a_worker_and_uses_the_metric_of_jobs() -> None:
    """Both objects keep one worker at least, which leads, and scale the same deployment by waiting jobs of a queue."""
    assert SCALED["apiVersion"] == "keda.sh/v1alpha1"
    assert HORIZONTAL["apiVersion"] == "autoscaling/v2"
    assert SCALED["spec"]["minReplicaCount"] == HORIZONTAL["spec"]["minReplicas"] == 1
    assert SCALED["spec"]["scaleTargetRef"]["name"] == HORIZONTAL["spec"]["scaleTargetRef"]["name"]
    [metric] = HORIZONTAL["spec"]["metrics"]
    asked = metric["external"]["metric"]
    assert asked["selector"]["matchLabels"].keys() <= REAL[asked["name"]].keys()
    # By what waits alone, a deployment whose workers are all busy would be taken away from under its jobs.
    [states] = asked["selector"]["matchExpressions"]
    assert (states["key"], set(states["values"])) == ("state", {"waiting", "running"})
    assert SCALED["spec"]["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
    assert metric["external"]["target"]["averageValue"] == SCALED["spec"]["triggers"][0]["metadata"]["threshold"]
