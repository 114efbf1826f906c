"""compose.yaml and the Dockerfile say what production needs, as far as that shows without a container engine."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from celeriac.commands.cli import command
from tests import composed
from tests.composed import COMPOSE, TEXT
from tests.live import LivePlatform
from tracking.settings import QUEUES, Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"roles", "migrate"}
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOT)
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
WORKERS = ("worker-default", "worker-maintenance", "worker-webhooks")
SECRETS = (
    *("POSTGRES_PASSWORD", "DATABASE_WORKER_PASSWORD", "DATABASE_API_PASSWORD"),
    *("RABBITMQ_PASSWORD", "RABBITMQ_API_PASSWORD", "RABBITMQ_WORKER_PASSWORD", "RABBITMQ_FLOWER_PASSWORD"),
    *("CELERIAC_JWT_SECRET", "FLOWER_BASIC_AUTH"),
)
ACCOUNTS: dict[str, Any] = json.loads(composed.content("accounts", composed.values()))


def environment(name: str) -> dict[str, str]:
    """What compose.yaml sets for the service `name`."""
    return dict(SERVICES[name].get("environment", {}))


def secrets_of(name: str) -> set[str]:
    """The secrets of the service `name`."""
    return set(SERVICES[name].get("secrets", ()))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the secrets that secrets.sh has made."""
    return composed.written(tmp_path_factory.mktemp("secrets"), composed.values())


def mounts(name: str) -> dict[str, str]:
    """The named volumes of the service `name`, each with the path where it is mounted."""
    return dict(volume.split(":") for volume in SERVICES[name].get("volumes", []) if ":" in volume)


def docker_instructions(name: str) -> list[str]:
    """The arguments of each instruction `name` of the Dockerfile, continuation lines joined."""
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", joined, re.MULTILINE)


def test_the_services_are_the_production_shape() -> None:
    """compose.yaml has PostgreSQL, RabbitMQ, roles, migration, API, three workers and Flower, and no other service."""
    assert set(SERVICES) == {"database", "broker", "roles", "migrate", "api", *WORKERS, "flower"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_has_a_health_check_with_a_deadline(name: str) -> None:
    """Every long-running service of compose.yaml has a health check with a deadline."""
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_comes_back_after_a_crash(name: str) -> None:
    """Every long-running service restarts after a crash, unless somebody stopped it."""
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_roles_and_migration_run_once_in_this_order() -> None:
    """What runs once has the restart policy `no`, quoted for YAML, and the migration finds the roles."""
    assert {SERVICES[name]["restart"] for name in ONE_SHOT} == {"no"}
    assert SERVICES["migrate"]["depends_on"]["roles"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", ["api", *WORKERS])
def test_what_uses_the_tables_waits_for_the_migration_and_the_servers(name: str) -> None:
    """Services that use the tables wait for the migration and for their servers."""
    assert SERVICES[name]["depends_on"] == {
        "database": {"condition": "service_healthy"},
        "broker": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


def test_the_workers_serve_one_queue_each() -> None:
    """The workers of compose.yaml serve one queue each, and together all that there are."""
    queues = [SERVICES[name]["command"][SERVICES[name]["command"].index("--queues") + 1] for name in WORKERS]
    assert queues == list(QUEUES)


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_may_finish_its_jobs_before_it_is_killed(name: str) -> None:
    """The workers of compose.yaml may take longer than Docker's ten seconds to stop."""
    assert SERVICES[name]["stop_grace_period"] == "5m"


@pytest.mark.parametrize("name", [name for name in OURS if SERVICES[name]["command"][0] == "celeriac"])
def test_every_command_is_one_that_celeriac_has(name: str) -> None:
    """Every command of compose.yaml exists and takes its options."""
    subcommand, *arguments = SERVICES[name]["command"][1:]
    with command.found(subcommand).make_context(subcommand, arguments):
        pass


@pytest.mark.parametrize("name", WORKERS)
def test_the_health_check_asks_for_a_worker_of_this_host(name: str) -> None:
    """A worker's health check is the program that asks whether the worker of its own host answers."""
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "python", "-m", "celeriac.alive"]


def test_a_worker_answers_what_the_health_check_asks(running: LivePlatform) -> None:
    """A worker answers the health check of its own host on both brokers, and that of another host fails."""
    for host, status in ((running.directory.name, "0"), ("elsewhere", "1")):
        asked = (
            "import socket; from celeriac import alive; alive.PATIENCE = 2.0; "
            f"socket.gethostname = lambda: {host!r}; print(alive.main([]))"
        )
        assert running.run(asked).strip() == status


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_health_checks_in_python_are_python(name: str) -> None:
    """The health checks of compose.yaml that are Python can be parsed."""
    test = SERVICES[name]["healthcheck"]["test"]
    if test[1:3] == ["python", "-c"]:
        compile(test[3], name, "exec")


def test_secrets_are_required_from_outside() -> None:
    """Each secret of compose.yaml and secrets.sh is a variable without a default."""
    assert composed.required() == set(SECRETS)
    for secret in SECRETS:
        uses = re.findall(rf"\$\{{{secret}([^}}]*)\}}", TEXT + composed.SCRIPT.read_text())
        assert uses
        assert all(use.startswith(":?") for use in uses)


def test_no_secret_stands_in_an_environment() -> None:
    """No environment of a service has a secret or a URL with a password; what it names are files of its own secrets."""
    for name in SERVICES:
        for key, value in environment(name).items():
            assert "://" not in value, key
            if re.search(r"PASS|SECRET|AUTH|TOKEN|_URL", key):
                assert key.endswith("_FILE"), key
                place, _, secret = value.rpartition("/")
                assert (place, secret in secrets_of(name)) == (composed.PLACE, True)
    assert set(re.findall(r"\$\{(\w+)[^}]*\}", TEXT)) - {"CELERIAC_IMPORTS"} == {
        secret for secret in SECRETS if secret.startswith("RABBITMQ_")
    }, "those that are in the definitions of RabbitMQ, a file as well"


def test_each_service_gets_the_secrets_that_it_reads(written: Path) -> None:
    """secrets.sh makes each secret of compose.yaml for its owner's eyes; each service gets those that it reads."""
    files = {name: each["file"] for name, each in COMPOSE["secrets"].items()}
    assert files == {name: f"secrets/{name}" for name in files}
    assert {path.name for path in written.iterdir()} == files.keys()
    assert written.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o777 for path in written.iterdir()} == {0o444}
    for name, service in SERVICES.items():
        said = [*environment(name).values(), *map(str, service.get("command", ()))]
        if name == "database":
            said.append(composed.content("logins", {}))
        read = set(re.findall(rf"{composed.PLACE}/(\w+)", " ".join(said)))
        assert secrets_of(name) == read, name


def test_secrets_can_be_written_again(tmp_path: Path) -> None:
    """After a change of .env secrets.sh replaces the files; without a secret it says which is missing."""
    values = composed.values()
    composed.written(tmp_path, values)
    changed = composed.written(tmp_path, {**values, "DATABASE_API_PASSWORD": "another"})
    assert ":another@" in (changed / "api_database_url").read_text()
    (tmp_path / ".env").write_text("")
    ended = subprocess.run(["sh", tmp_path / "secrets.sh"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "POSTGRES_PASSWORD" in ended.stderr


def test_the_example_of_the_secrets_holds_none() -> None:
    """.env.example names every variable of compose.yaml and gives a value to none."""
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(example) == composed.required() | {"CELERIAC_IMPORTS"}
    assert not any(example.values())


def test_the_secrets_stay_out_of_git_and_of_the_image() -> None:
    """Git ignores .env and secrets/, and the image takes in nothing but what .dockerignore names."""
    assert {".env", "/secrets/"} <= set((ROOT / ".gitignore").read_text().splitlines())
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert "!.env" not in rules


def test_only_the_api_knows_the_key_of_its_tokens() -> None:
    """Of all services only the API has the key of the tokens."""
    assert [name for name in SERVICES if "api_jwt_secret" in secrets_of(name)] == ["api"]
    assert environment("api")["CELERIAC_JWT_SECRET_FILE"] == f"{composed.PLACE}/api_jwt_secret"


def test_flower_asks_for_a_password() -> None:
    """Flower runs with a password."""
    assert 'export FLOWER_BASIC_AUTH="$$(cat /run/secrets/flower_basic_auth)"' in SERVICES["flower"]["command"][-1]


def test_flower_only_looks_and_has_no_way_to_the_database() -> None:
    """Flower is read-only, and knows neither the database's network nor its address."""
    assert environment("flower")["FLOWER_READ_ONLY"] == "true"
    assert "database" not in SERVICES["flower"]["networks"]
    assert not any("database" in value for value in (*environment("flower").values(), *secrets_of("flower")))
    assert SERVICES["flower"]["depends_on"] == {"broker": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", OURS)
def test_each_part_connects_as_itself(name: str, written: Path) -> None:
    """Each part has an account of its own with each server; the superuser is for making roles alone."""
    texts = [(written / secret).read_text() for secret in secrets_of(name)]
    found = dict(re.findall(r"(postgresql|amqp|http)://(\w+):", " ".join(texts)))
    part = "celeriac_" + name.partition("-")[0]
    database = {"roles": "celeriac", "migrate": "celeriac_worker"}.get(name, part)
    wanted = {"postgresql": database, "amqp": part, "http": part}
    assert found == {scheme: wanted[scheme] for scheme in found}
    assert ("postgresql" in found) is (name != "flower")


def test_the_roles_are_for_those_who_connect(written: Path) -> None:
    """The service that makes the roles names every login of the others, and each of them is made."""
    files = {environment(name)["DATABASE_URL_FILE"] for name in OURS if name != "flower"}
    logins = {make_url((written / Path(file).name).read_text()).username for file in files}
    command = SERVICES["roles"]["command"]
    named = {value for option, value in pairwise(command) if option == "--login"}
    assert (
        named == logins - {"celeriac"} == set(re.findall(r"ALTER ROLE (\w+) PASSWORD", composed.content("logins", {})))
    )


def test_the_broker_knows_each_part_and_lets_none_do_all() -> None:
    """Each part is a user of the broker with rights that are not everybody's; an administrator is for people."""
    parts = {"celeriac_api", "celeriac_worker", "celeriac_flower"}
    tags = {user["name"]: user["tags"] for user in ACCOUNTS["users"]}
    assert tags == {part: [] for part in parts} | {"celeriac": ["administrator"], "celeriac_flower": ["management"]}
    assert len({user["password"] for user in ACCOUNTS["users"]}) == len(tags)
    rights = {each.pop("user"): each for each in ACCOUNTS["permissions"]}
    assert rights.keys() == tags.keys()
    for part in parts:
        for right in ("configure", "write", "read"):
            assert not re.search(rights[part][right], "of_others"), (part, right)
    worker = rights["celeriac_worker"]
    assert all(re.search(worker[right], queue) for right in ("configure", "write", "read") for queue in QUEUES)


@pytest.mark.parametrize("name", OURS)
def test_every_setting_in_the_environment_is_one_that_exists(name: str) -> None:
    """Every CELERIAC_ variable of compose.yaml is a setting."""
    keys = [key.removesuffix("_FILE") for key in environment(name) if key.startswith("CELERIAC_")]
    ours = {key.removeprefix("CELERIAC_").lower() for key in keys}
    assert ours <= Settings.model_fields.keys()


def test_data_outlives_its_container() -> None:
    """Database, broker and exports lie on named volumes, at the paths of their images."""
    assert set(COMPOSE["volumes"]) == {"database", "broker", "exports"}
    assert mounts("database") == {"database": "/var/lib/postgresql"}
    assert mounts("broker") == {"broker": "/var/lib/rabbitmq"}


def test_the_broker_keeps_its_name() -> None:
    """RabbitMQ has a fixed host name, under which it keeps its data."""
    assert SERVICES["broker"]["hostname"] == "broker"


@pytest.mark.parametrize("name", ["api", *WORKERS])
def test_workers_write_exports_where_the_api_reads_them(name: str) -> None:
    """API and workers mount the volume of exports where the image's settings look for them."""
    (path,) = re.findall(r"CELERIAC_EXPORTS_DIR=(\S+)", " ".join(docker_instructions("ENV")))
    assert mounts(name) == {"exports": path}


def test_the_broker_bears_jobs_that_run_for_hours() -> None:
    """RabbitMQ of compose.yaml waits a day for an acknowledgement."""
    files = {config["source"]: config["target"] for config in SERVICES["broker"]["configs"]}
    assert files["broker"].startswith("/etc/rabbitmq/conf.d/")
    said = COMPOSE["configs"]["broker"]["content"]
    assert f"load_definitions = {files['accounts']}" in said.splitlines()
    timeout = re.search(r"^consumer_timeout = (\d+)$", said, re.MULTILINE)
    assert timeout is not None
    assert int(timeout[1]) == 24 * 60 * 60 * 1000


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """compose.yaml publishes ports on loopback only."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_can_take_the_host_from_the_others(name: str) -> None:
    """Every service has a limit of its memory and its processes, and logs that are rotated."""
    service = SERVICES[name]
    assert re.fullmatch(r"[1-4]g", service["mem_limit"])
    assert 100 <= service["pids_limit"] <= 2000
    assert service["logging"] == {"driver": "local", "options": {"max-size": "20m", "max-file": "5"}}


def test_the_servers_are_apart_from_the_outside() -> None:
    """Nothing leads from the database outside, each service reaches its servers, and what publishes a port can."""
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert COMPOSE["networks"] == {"database": {"internal": True}, "broker": {"internal": True}, "outside": {}}
    assert networks["database"] == networks["migrate"] == networks["roles"] == {"database"}
    for name, service in SERVICES.items():
        assert {"database", "broker"} & set(service.get("depends_on", ())) <= networks[name], name
        if "ports" in service:
            assert "outside" in networks[name], name


@pytest.mark.parametrize("name", ["database", "broker"])
def test_servers_are_pinned_to_a_version(name: str) -> None:
    """The images of servers are pinned to a version, and may be to a digest."""
    assert re.fullmatch(r"\w+:\d[\w.-]*(@sha256:[0-9a-f]{64})?", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_more_rights_than_they_need(name: str) -> None:
    """Our containers have no capability, no new privileges and a read-only root."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "/tmp" in [*service.get("tmpfs", []), *service.get("volumes", [])]  # noqa: S108 - a path in the container


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_built_from_the_dockerfile(name: str) -> None:
    """Our services share one image, built from this directory."""
    assert SERVICES[name]["build"] == "."
    assert SERVICES[name]["image"] == "celeriac"
    assert (ROOT / "Dockerfile").is_file()


def test_the_image_holds_the_locked_production_dependencies() -> None:
    """The image installs the production lock with its hashes, from wheels alone."""
    assert "requirements/production.lock requirements/" in docker_instructions("COPY")
    installs = [line for line in docker_instructions("RUN") if "requirements/production.lock" in line]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]


def test_everything_that_the_image_copies_exists_and_is_let_in() -> None:
    """Every file that the image copies exists and is let in by .dockerignore."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    for instruction in docker_instructions("COPY"):
        if instruction.startswith("--from="):
            continue
        *sources, _target = instruction.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in rules, source


def test_the_image_runs_as_an_ordinary_user() -> None:
    """The last USER of the image is a number other than root's."""
    assert int(docker_instructions("USER")[-1]) > 0


def test_both_stages_start_from_one_pinned_python() -> None:
    """Both stages of the image start from one pinned Python."""
    (image,) = re.findall(r"PYTHON_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text())
    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-[a-z]+", image)
    assert docker_instructions("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
