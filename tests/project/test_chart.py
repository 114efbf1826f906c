"""docs/kubernetes/chart: it says what the manifests beside it say, and what is its user's to set is so."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types of its own
import pytest
import yaml

from tests.charts import Refused, rendered
from tests.project.test_handler_docs import blocks
from tests.project.test_kubernetes import DIRECTORY, OBJECTS, OF_OTHERS, VERSIONS, container, pod
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


@pytest.mark.parametrize("queues", ["mail,print", ["mail", "print"], "mail, print"])
def test_whoever_has_queues_of_their_own_adds_workers(queues: object) -> None:
    """A worker of one's own is a deployment with its queues, its budget, and the rules of the network."""
    own = {"queues": queues, "replicas": 3, "concurrency": 8, "resources": {"limits": {"memory": "9Gi"}}}
    objects = by_name(rendered(CHART, {**VALUES, "workers": {"own": own}}))
    worker = objects["Deployment", "celeriac-worker-own"]
    assert container(worker)["args"][:2] == ["celeriac", "worker"]
    assert container(worker)["args"][3].replace(" ", "") == "mail,print"
    assert container(worker)["args"][4:] == ["--concurrency", "8"]
    assert container(worker)["resources"] == own["resources"]
    assert worker["spec"]["replicas"] == 3
    assert ("PodDisruptionBudget", "celeriac-worker-own") in objects
    assert ("ScaledObject", "celeriac-worker-own") not in objects
    (expression,) = objects["NetworkPolicy", "celeriac-workers"]["spec"]["podSelector"]["matchExpressions"]
    assert "worker-own" in expression["values"]


def test_a_worker_needs_no_more_than_a_name() -> None:
    """A worker of which nothing is said serves the queue of its name; null takes one away."""
    objects = by_name(rendered(CHART, {"workers": {"mail": {"grace": 600}, "webhooks": None}}))
    worker = objects["Deployment", "celeriac-worker-mail"]
    assert container(worker)["args"] == ["celeriac", "worker", "--queues", "mail", "--concurrency", "4"]
    assert container(worker)["resources"]["limits"]
    assert "replicas" not in worker["spec"]  # Kubernetes's own is one
    assert container(worker)["env"][0] == {"name": "CELERIAC_SHUTDOWN_GRACE", "value": "600"}
    assert pod(worker)["terminationGracePeriodSeconds"] == 630
    assert not [name for name in objects if "webhooks" in name[1]]


def test_a_worker_may_be_called_as_its_queue_is() -> None:
    """A worker with an underscore or a capital in its name serves that queue, under a name that Kubernetes takes."""
    values = {"workers": {"Export_report": {"mostReplicas": 5}}, "keda": {"enabled": True}}
    objects = by_name(rendered(CHART, values))
    for kind in ("Deployment", "PodDisruptionBudget", "ScaledObject"):
        assert (kind, "celeriac-worker-export-report") in objects
    worker, scaled = (objects[kind, "celeriac-worker-export-report"] for kind in ("Deployment", "ScaledObject"))
    assert container(worker)["args"][3] == "Export_report"
    assert scaled["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]


@pytest.mark.parametrize("other", ["mail-out", "Mail_out", "MAIL-OUT"])
def test_two_workers_of_one_deployment_are_refused(other: str) -> None:
    """Names of workers that Kubernetes cannot tell apart are refused: one worker would take the place of the other."""
    with pytest.raises(Refused, match=rf"workers\.{other} .*workers\.mail_out|workers\.mail_out .*workers\.{other}"):
        rendered(CHART, {"workers": {"mail_out": {}, other: {}}})


@pytest.mark.parametrize("queues", ["mail,print", ["mail", "print"], "mail, print"])
def test_a_worker_of_several_queues_is_scaled_by_all_of_them(queues: object) -> None:
    """KEDA asks for the jobs of each queue that the worker serves; those of one came to nothing, and it stood alone."""
    own = {"queues": queues, "mostReplicas": 5}
    objects = by_name(rendered(CHART, {**VALUES, "workers": {"own": own}}))
    [trigger] = objects["ScaledObject", "celeriac-worker-own"]["spec"]["triggers"]
    assert 'queue=~"mail|print"' in trigger["metadata"]["query"]
    assert trigger["metadata"]["threshold"] == "4"


def test_settings_are_texts_whatever_they_are_in_the_values() -> None:
    """Numbers and booleans among the settings are texts in the ConfigMap, which takes nothing else."""
    given = {"CELERIAC_POOL_SIZE": 20, "CELERIAC_DASHBOARD": False, "CELERIAC_QUERY_DISK": 10_000_000, "TZ": "yes"}
    objects = rendered(CHART, {"settings": given})
    data = by_name(objects)["ConfigMap", "celeriac"]["data"]
    assert {name: data[name] for name in given} == {
        "CELERIAC_POOL_SIZE": "20",
        "CELERIAC_DASHBOARD": "false",
        "CELERIAC_QUERY_DISK": "10000000",
        "TZ": "yes",
    }
    for each in objects:
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)


SITE: dict[str, Any] = {  # what a site changes, all at once
    "secrets": {
        "api": "from-a-vault",
        "keys": {
            "api": {"CELERIAC_JWT_SECRET": None, "CELERIAC_METRICS_TOKEN": "scrape", "DATABASE_URL": "pooled"},
            "worker": {"DATABASE_DIRECT_URL": "direct"},
            "migrate": {"DATABASE_DIRECT_URL": "direct"},
        },
    },
    "settings": {"CELERIAC_JWKS_URL": "https://sso.example.org/keys", "SSL_CERT_FILE": "/etc/celeriac/ca/ca.crt"},
    "files": {"ca": {"configMap": {"name": "company-ca"}}, "reports": {"secret": {"secretName": "reports"}}},
    "envFrom": [{"secretRef": {"name": "handlers"}}],
    "pods": {
        "securityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "nodeSelector": {"pool": "jobs"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "podAnnotations": {"example.org/inject": "false"},
    "serviceAccount": {"annotations": {"example.org/role": "bucket"}},
    "ingress": {"host": "jobs.example.org", "class": "nginx", "secret": "jobs-tls", "annotations": {"a": "b"}},
    "workers": {"maintenance": {"pod": {"nodeSelector": {"pool": "cheap"}, "priorityClassName": "low"}}},
    "network": {
        "broker": [{"ports": [{"port": 6379}], "to": [{"podSelector": {"matchLabels": {"app": "valkey"}}}]}],
        "clients": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "further": [{"ports": [{"port": 9000}]}],
    },
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "token": "scrape"},
}


def test_a_site_changes_what_sites_change() -> None:
    """Secrets by other names, authorities of one's own, places, network and monitoring are values, in each pod."""
    objects = rendered(CHART, SITE)
    named = by_name(objects)
    for each in objects:
        if each["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    for each in (each for each in objects if "template" in each.get("spec", {})):
        mounts = {mount["name"]: mount["mountPath"] for mount in container(each)["volumeMounts"]}
        assert mounts["ca"] == "/etc/celeriac/ca"
        assert {"name": "ca", "configMap": {"name": "company-ca"}} in pod(each)["volumes"]
        assert pod(each)["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}
        assert pod(each)["imagePullSecrets"] == [{"name": "registry"}]
        assert each["spec"]["template"]["metadata"]["annotations"] == SITE["podAnnotations"]
        assert container(each)["securityContext"]["readOnlyRootFilesystem"] is True
    api, worker = named["Deployment", "celeriac-api"], named["Deployment", "celeriac-worker-maintenance"]
    assert files_of(api) == {"BROKER_URL": "broker_url", "CELERIAC_METRICS_TOKEN": "scrape", "DATABASE_URL": "pooled"}
    assert files_of(worker)["DATABASE_DIRECT_URL"] == "direct"
    [secret] = [
        each["secret"] for each in pod(named["Job", "celeriac-migrate-1"])["volumes"] if each["name"] == "secrets"
    ]
    assert {each["path"] for each in secret["items"]} == set(files_of(named["Job", "celeriac-migrate-1"]).values())
    assert {"secretRef": {"name": "handlers"}} in container(api)["envFrom"]
    assert (pod(api)["nodeSelector"], pod(worker)["nodeSelector"]) == ({"pool": "jobs"}, {"pool": "cheap"})
    rules = {name: each["spec"] for (kind, name), each in named.items() if kind == "NetworkPolicy"}
    assert rules["celeriac-broker"]["egress"] == SITE["network"]["broker"]
    assert rules["celeriac-api"]["ingress"][0]["from"] == SITE["network"]["clients"]
    assert all(SITE["network"]["further"][0] in rules[name]["egress"] for name in ("celeriac-api", "celeriac-workers"))
    monitor = named["ServiceMonitor", "celeriac-api"]
    assert monitor["metadata"]["labels"] == {"release": "prometheus"}
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"] == {"name": "from-a-vault", "key": "scrape"}
    [secured] = named["Ingress", "celeriac-api"]["spec"]["tls"]
    assert secured == {"hosts": ["jobs.example.org"], "secretName": "jobs-tls"}


def test_rules_of_the_network_can_be_left_to_others() -> None:
    """Without rules of the network there is none, and the rest is as it was."""
    with_rules, without = (rendered(CHART, {"network": {"enabled": each}}) for each in (True, False))
    assert without == [each for each in with_rules if each["kind"] != "NetworkPolicy"]


def test_our_reading_of_a_site_is_that_of_helm(tmp_path: Path) -> None:
    """Helm makes of the values of a site what our reading of the chart makes of them."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("no helm on this machine; the chart is rendered by our own reading of it")
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(SITE))
    command = [helm, "template", "celeriac", str(CHART), "-f", str(values)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert by_name(filter(None, yaml.safe_load_all(made.stdout))) == by_name(rendered(CHART, SITE))


def files_of(each: dict[str, Any]) -> dict[str, str]:
    """The settings of a pod that are files, and their keys in its secret."""
    return {
        entry["name"].removesuffix("_FILE"): entry["value"].rpartition("/")[2]
        for entry in container(each)["env"]
        if entry["name"].endswith("_FILE")
    }


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
