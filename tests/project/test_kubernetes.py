"""docs/kubernetes: its manifests are those of Kubernetes, and say of the platform what is so."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types of its own
import pytest
import yaml

from api.routes.health import router
from celeriac import web
from celeriac.commands.cli import command
from tests import composed
from tests.project.test_handler_docs import blocks
from tests.project.test_monitoring import MATCHER, REAL, SELECTED
from tests.project.test_project import ROOT
from tracking.settings import QUEUES, Settings

DIRECTORY = ROOT / "docs" / "kubernetes"
RENDERED = (DIRECTORY / "rendered.yaml").read_text()
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(RENDERED))
VERSIONS = ("1.30", "1.33", "1.37")
OF_OTHERS = ("ScaledObject", "ServiceMonitor")  # whose schemas are not Kubernetes' own
WITH_PODS = [each for each in OBJECTS if "template" in each.get("spec", {})]
WORKERS = [each for each in WITH_PODS if each["metadata"]["name"].startswith("celeriac-worker")]
USER = 10001


def named(kind: str, name: str) -> dict[str, Any]:
    """The object of this kind and name."""
    (found,) = (each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def of(kind: str) -> list[dict[str, Any]]:
    """All objects of a kind."""
    return [each for each in OBJECTS if each["kind"] == kind]


def pod(of_whom: dict[str, Any]) -> dict[str, Any]:
    """The description of its pods."""
    return dict(of_whom["spec"]["template"]["spec"])


def container(of_whom: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(of_whom)["containers"]
    return dict(found)


def options(of_whom: dict[str, Any]) -> dict[str, str]:
    """The options of its command with their values."""
    return {name: value for name, value in pairwise(container(of_whom)["args"]) if name.startswith("--")}


def ids(each: dict[str, Any]) -> str:
    """What a test of it is called."""
    return f"{each['kind']} {each['metadata']['name']}"


def test_what_is_checked_in_is_what_kubectl_makes_of_the_example() -> None:
    """`rendered.yaml` is what kustomize, in kubectl, prints for the example."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine, which renders the manifests")
    made = subprocess.run(
        [kubectl, "kustomize", DIRECTORY / "example"], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    assert list(yaml.safe_load_all(made.stdout)) == OBJECTS, f"{kubectl} kustomize {DIRECTORY}/example > rendered.yaml"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_is_one_of_kubernetes(version: str) -> None:
    """Each object keeps to the schema of its kind, which knows each of its fields, in old and new versions."""
    for each in OBJECTS:
        if each["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("each", WITH_PODS, ids=ids)
def test_pods_run_commands_that_there_are(each: dict[str, Any]) -> None:
    """The command of each pod is one of `celeriac` with options that it has; its settings and secrets are ours."""
    program, name, *rest = container(each)["args"]
    assert program == "celeriac"
    with command.found(name).make_context(name, rest):
        pass
    properties = Settings.model_json_schema()["properties"]
    known = {name if name.isupper() else f"CELERIAC_{name.upper()}" for name in properties}
    given = {entry["name"]: entry["value"] for entry in container(each)["env"]}
    assert {name.removesuffix("_FILE") for name in given} <= known
    assert named("ConfigMap", "celeriac")["data"].keys() <= known
    (secret,) = (volume["secret"] for volume in pod(each)["volumes"] if volume["name"] == "secrets")
    mounted = {mount["name"]: mount["mountPath"] for mount in container(each)["volumeMounts"]}
    made = dict(re.findall(r"create secret generic (\S+) (.*)", "\n".join(blocks("kubernetes.md", "sh"))))
    for name, value in given.items():
        if name.endswith("_FILE"):
            directory, _, file = value.rpartition("/")
            assert directory == mounted["secrets"]
            assert f"--from-file={file}" in made[secret["secretName"]].split()
    assert {name for name in given if not name.endswith("_FILE")} <= {"CELERIAC_SHUTDOWN_GRACE"}


@pytest.mark.parametrize("each", WITH_PODS, ids=ids)
def test_pods_have_no_more_rights_than_they_need(each: dict[str, Any]) -> None:
    """Pods run as an ordinary user without a token, on a root that cannot be written, with limits and no capability."""
    assert pod(each)["automountServiceAccountToken"] is False
    assert pod(each)["enableServiceLinks"] is False
    assert pod(each)["securityContext"] == {
        "runAsNonRoot": True,
        **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), USER),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(each)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert f"USER {USER}" in (ROOT / "Dockerfile").read_text().splitlines()
    assert container(each)["resources"].keys() == {"requests", "limits"}
    assert "memory" in container(each)["resources"]["limits"]
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod(each)["volumes"] if "emptyDir" in volume)
    written = {mount["mountPath"] for mount in container(each)["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/tmp", "/var/lib/celeriac"}  # noqa: S108 - a path in the container
    assert named("Namespace", "celeriac")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_queues_have_a_worker_each() -> None:
    """There are workers of each queue, of no other, and as many at once as compose.yaml has queues for."""
    assert sorted(options(each)["--queues"] for each in WORKERS) == sorted(QUEUES)


@pytest.mark.parametrize("each", WORKERS, ids=ids)
def test_a_worker_may_finish_before_it_is_killed(each: dict[str, Any]) -> None:
    """A worker's pod is given longer than its own grace period, and is not restarted while the broker is away."""
    grace = {entry["name"]: entry["value"] for entry in container(each)["env"]}["CELERIAC_SHUTDOWN_GRACE"]
    assert Settings(shutdown_grace=float(grace)).shutdown_grace + 20 <= pod(each)["terminationGracePeriodSeconds"]
    assert "livenessProbe" not in container(each)
    assert pod(each)["shareProcessNamespace"] is True


def test_a_worker_is_asked_as_in_compose() -> None:
    """The probe of the workers is the health check of compose.yaml, which a test puts to a worker."""
    _, *command = composed.COMPOSE["services"]["worker-default"]["healthcheck"]["test"]
    for each in WORKERS:
        assert container(each)["readinessProbe"]["exec"]["command"] == command


def test_the_api_is_asked_where_it_answers() -> None:
    """Probes ask for routes that there are at the port of the command; liveness does not depend on the database."""
    api = named("Deployment", "celeriac-api")
    (port,) = container(api)["ports"]
    assert options(api)["--port"] == str(port["containerPort"])
    probes = {name: value["httpGet"] for name, value in container(api).items() if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {probe["path"] for probe in probes.values()} <= {route.path for route in router.routes}  # type: ignore[attr-defined]
    (service_port,) = named("Service", "celeriac-api")["spec"]["ports"]
    ours = {port["name"]}
    assert {probe["port"] for probe in probes.values()} == {service_port["targetPort"]} == ours
    (endpoint,) = named("ServiceMonitor", "celeriac-api")["spec"]["endpoints"]
    assert endpoint["port"] == service_port["name"]
    assert endpoint["path"] in {route.path for route in router.routes}  # type: ignore[attr-defined]


def test_the_api_may_answer_before_it_is_killed() -> None:
    """The API's pod is given longer than the pause before its end and all that it waits for then."""
    api = named("Deployment", "celeriac-api")
    program, seconds = container(api)["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    unit = (ROOT / "docs" / "systemd" / "celeriac-api.service").read_text()
    (own,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert web.GRACE < int(own) <= pod(api)["terminationGracePeriodSeconds"] - int(seconds)


@pytest.mark.parametrize("kind", ["Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "ServiceMonitor"])
def test_selectors_find_pods(kind: str) -> None:
    """What selects finds pods or services that there are; every Deployment has a budget."""
    kinds = of("Service") if kind == "ServiceMonitor" else [each["spec"]["template"] for each in WITH_PODS]
    labels = [each["metadata"]["labels"] for each in kinds]
    for each in of(kind):
        selector = each["spec"].get("selector", each["spec"].get("podSelector"))
        wanted = selector if kind == "Service" else selector.get("matchLabels", {})
        found = [label for label in labels if wanted.items() <= label.items()]
        for expression in selector.get("matchExpressions", ()) if kind != "Service" else ():
            values = {label["app.kubernetes.io/component"] for label in labels}
            assert set(expression["values"]) <= values
        assert found, ids(each)
    assert {each["metadata"]["name"] for each in of("PodDisruptionBudget")} == {
        each["metadata"]["name"] for each in of("Deployment")
    }


@pytest.mark.parametrize("each", of("ScaledObject"), ids=ids)
def test_keda_asks_for_metrics_that_there_are(each: dict[str, Any]) -> None:
    """KEDA scales workers that there are, by their queue's jobs and what a worker runs at once, and leaves one."""
    worker = named("Deployment", each["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in worker["spec"]
    assert each["spec"]["minReplicaCount"] == 1
    (trigger,) = each["spec"]["triggers"]
    assert trigger["metadata"]["threshold"] == options(worker)["--concurrency"]
    (name, matchers), (up, _) = SELECTED.findall(trigger["metadata"]["query"])
    said = {label: value for label, _, value in MATCHER.findall(matchers)}
    assert said.keys() <= REAL[name].keys()
    assert said["queue"] == options(worker)["--queues"]
    assert set(said["state"].split("|")) <= REAL[name]["state"]
    # A database that is away is no empty queue: KEDA would take all workers but one away, amid their jobs.
    assert trigger["metadata"]["query"].endswith(f" or 0 * (max({up}) == 1)")
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert each["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_the_migration_gives_up_when_it_is_set_wrong() -> None:
    """The Job ends at the exit status of a wrong setting, and tries again at others."""
    job = named("Job", "celeriac-migrate")
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2])
    assert rule["onExitCodes"]["containerName"] == container(job)["name"]
    assert container(job)["args"] == ["celeriac", "migrate"]


def test_the_page_applies_what_there_is() -> None:
    """The commands of the page name labels, jobs and secrets of the manifests."""
    lines = "\n".join(blocks("kubernetes.md", "sh"))
    components = {each["metadata"].get("labels", {}).get("app.kubernetes.io/component") for each in OBJECTS}
    assert set(re.findall(r"component=(\w+)", lines)) <= components
    assert set(re.findall(r"job[ /](celeriac-\w+)", lines)) == {each["metadata"]["name"] for each in of("Job")}
    secrets = {
        volume["secret"]["secretName"] for each in WITH_PODS for volume in pod(each)["volumes"] if "secret" in volume
    }
    optional = {
        source["secretRef"]["name"]
        for each in WITH_PODS
        for source in container(each)["envFrom"]
        if "secretRef" in source and source["secretRef"]["optional"]
    }
    assert set(re.findall(r"create secret generic (\S+)", lines)) == secrets | optional
