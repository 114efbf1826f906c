"""docs/kubernetes/chart: it says what the manifests beside it say, and what is its user's to set is so."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types of its own
import pytest
import yaml

from tests.charts import rendered
from tests.project.test_handler_docs import blocks
from tests.project.test_kubernetes import DIRECTORY, OBJECTS, OF_OTHERS, VERSIONS, container
from tests.project.test_project import ROOT

CHART = DIRECTORY / "chart"
VALUES: dict[str, Any] = yaml.safe_load((DIRECTORY / "chart-values.yaml").read_text())
BY_HELM = [each for each in yaml.safe_load_all((DIRECTORY / "rendered-chart.yaml").read_text()) if each]
COMMAND = ("template", "celeriac", "chart", "--namespace", "celeriac", "-f", "chart-values.yaml")

Named = dict[tuple[str, str], dict[str, Any]]


def by_name(objects: Iterable[dict[str, Any]]) -> Named:
    """Objects by kind and name, without the namespace, which Helm is told."""
    found: Named = {}
    for each in copy.deepcopy(list(objects)):
        each["metadata"].pop("namespace", None)
        found[each["kind"], each["metadata"]["name"]] = each
    return found


def test_the_chart_makes_what_helm_has_made_of_it() -> None:
    """`rendered-chart.yaml`, which Helm has made, is what our reading of the chart makes."""
    assert by_name(rendered(CHART, VALUES)) == by_name(BY_HELM)


def test_what_is_checked_in_is_what_helm_makes_of_the_chart() -> None:
    """`rendered-chart.yaml` is what Helm prints for the chart with the values of the example."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("no helm on this machine; the chart is rendered by our own reading of it")
    made = subprocess.run([helm, *COMMAND], cwd=DIRECTORY, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    assert by_name(filter(None, yaml.safe_load_all(made.stdout))) == by_name(BY_HELM)


def test_the_chart_is_the_manifests() -> None:
    """Chart and manifests make the same objects, but for the namespace and the name of the migration."""
    chart = by_name(BY_HELM)
    job = chart.pop(("Job", "celeriac-migrate-1"))
    job["metadata"]["name"] = "celeriac-migrate"
    chart["Job", "celeriac-migrate"] = job
    manifests = by_name(OBJECTS)
    del manifests["Namespace", "celeriac"]
    assert chart.keys() == manifests.keys()
    for name, each in manifests.items():
        assert chart[name] == each, name


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_of_the_plain_chart_is_one_of_kubernetes(version: str) -> None:
    """With the values of the chart alone each object keeps to the schema of its kind, and none is of another's."""
    objects = rendered(CHART, {})
    assert not [each for each in objects if each["kind"] in OF_OTHERS]
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_whoever_has_queues_of_their_own_adds_workers() -> None:
    """A worker of one's own is a deployment with its queues, its budget, and the rules of the network."""
    own = {"queues": "mail,print", "replicas": 3, "concurrency": 8, "resources": {}}
    objects = by_name(rendered(CHART, {**VALUES, "workers": {"own": own}}))
    worker = objects["Deployment", "celeriac-worker-own"]
    assert container(worker)["args"] == ["celeriac", "worker", "--queues", "mail,print", "--concurrency", "8"]
    assert worker["spec"]["replicas"] == 3
    assert ("PodDisruptionBudget", "celeriac-worker-own") in objects
    assert ("ScaledObject", "celeriac-worker-own") not in objects
    (expression,) = objects["NetworkPolicy", "celeriac-workers"]["spec"]["podSelector"]["matchExpressions"]
    assert "worker-own" in expression["values"]


def test_an_image_may_be_a_digest_and_each_revision_migrates() -> None:
    """A digest counts instead of the tag, in all pods; each revision of a release has a migration of its own."""
    image = {"repository": "registry.example.org/celeriac", "digest": f"sha256:{'0' * 64}"}
    objects = rendered(CHART, {"image": image}, revision=7)
    images = {container(each)["image"] for each in objects if "template" in each.get("spec", {})}
    assert images == {f"registry.example.org/celeriac@sha256:{'0' * 64}"}
    assert ("Job", "celeriac-migrate-7") in by_name(objects)


def test_the_chart_is_of_this_version() -> None:
    """The chart has the version of the project, and its page names its values."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert (about["appVersion"], values["image"]["tag"]) == (version, version)
    said = (ROOT / "docs" / "kubernetes.md").read_text()
    assert re.findall(r"helm template (.*) >", said) == [" ".join(COMMAND[1:])]
    assert any("helm upgrade --install celeriac" in block for block in blocks("kubernetes.md", "sh"))
