"""The alert rules of docs/monitoring, evaluated on one scrape as Prometheus does: no Python library has that part."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "docs" / "monitoring" / "alerts.yaml").read_text()
)["groups"][0]["rules"]

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
TOKEN = re.compile(r'\s*([a-zA-Z_]\w*|"[^"]*"|[\d.]+|>=|==|[{}(),/>=])')
GROUPING: dict[str, Callable[[Iterable[float]], float]] = {"max": max, "sum": sum}
COMPARING: dict[str, Callable[[float, float], bool]] = {
    ">": float.__gt__,
    ">=": float.__ge__,
    "==": float.__eq__,
}


def firing(alert: str, scraped: str, *, beyond: float | None = None) -> list[dict[str, str]]:
    """The labels for each of which a rule holds on this answer of `/metrics`; `beyond` replaces its threshold."""
    [expression] = [rule["expr"] for rule in RULES if rule["alert"] == f"Celeriac{alert}"]
    if beyond is not None:
        expression = re.sub(r"[\d.]+\s*$", str(beyond), expression)
    return [dict(labels) for labels in _Evaluation(expression, scraped).result()]


class _Evaluation:
    """One expression, by recursive descent; a ValueError for what it has of PromQL that is not known here."""

    def __init__(self, expression: str, scraped: str) -> None:
        self._tokens = TOKEN.findall(expression)
        if "".join(self._tokens) != re.sub(r"\s", "", expression):
            raise ValueError(expression)
        self._samples: dict[str, Vector] = defaultdict(dict)
        for family in text_string_to_metric_families(scraped):
            for sample in family.samples:
                self._samples[sample.name][frozenset(sample.labels.items())] = sample.value

    def result(self) -> Vector:
        found = self._both()
        if self._tokens:
            raise ValueError(self._tokens)
        return found

    def _both(self) -> Vector:
        found = self._compared()
        while self._took("and"):
            other = self._compared()
            found = {labels: value for labels, value in found.items() if labels in other}
        return found

    def _compared(self) -> Vector:
        found = self._divided()
        for sign, holds in COMPARING.items():
            if self._took(sign):
                bound = float(self._next())
                return {labels: value for labels, value in found.items() if holds(value, bound)}
        return found

    def _divided(self) -> Vector:
        found = self._one()
        if not self._took("/"):
            return found
        ignored = self._names() if self._took("ignoring") else set()
        other = {_without(ignored, labels): value for labels, value in self._one().items()}
        matched = {_without(ignored, labels): value for labels, value in found.items()}
        return {labels: value / other[labels] for labels, value in matched.items() if labels in other}

    def _one(self) -> Vector:
        word = self._next()
        if word == "absent":
            found = self._parenthesized()
            return {} if found else {frozenset(): 1.0}
        if word not in GROUPING:
            return self._selected(word)
        kept = self._names() if self._took("by") else set()
        groups: dict[Labels, list[float]] = defaultdict(list)
        for labels, value in self._parenthesized().items():
            groups[frozenset(each for each in labels if each[0] in kept)].append(value)
        return {labels: GROUPING[word](values) for labels, values in groups.items()}

    def _selected(self, name: str) -> Vector:
        wanted: set[tuple[str, str]] = set()
        if self._took("{"):
            while not self._took("}"):
                label, sign, value = self._next(), self._next(), self._next()
                if sign != "=":
                    raise ValueError(sign)
                wanted.add((label, value.strip('"')))
                self._took(",")
        return {labels: value for labels, value in self._samples[name].items() if wanted <= labels}

    def _parenthesized(self) -> Vector:
        if not self._took("("):
            raise ValueError(self._tokens)
        found = self._both()
        if not self._took(")"):
            raise ValueError(self._tokens)
        return found

    def _names(self) -> set[str]:
        end = self._tokens.index(")")
        named, self._tokens = self._tokens[: end + 1], self._tokens[end + 1 :]
        return set(named) - {"(", ",", ")"}

    def _next(self) -> str:
        return str(self._tokens.pop(0))

    def _took(self, token: str) -> bool:
        if self._tokens[:1] != [token]:
            return False
        self._tokens.pop(0)
        return True


def _without(names: set[str], labels: Labels) -> Labels:
    return frozenset(each for each in labels if each[0] not in names)
