"""The deployment, up and running: `make test-compose`. Needs a Docker engine."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from support.compose import SERVICES

if TYPE_CHECKING:
    from support.compose import Deployment

# Their metadata says nothing, their licence files do: MIT.
READ = ("huey", "skops")
OURS = ("tidegate-serve", "tidegate-mlflow", "tidegate-train")


def test_every_service_is_healthy(deployment: Deployment) -> None:
    states = {name: deployment.inspect(name)["State"]["Health"]["Status"] for name in SERVICES}
    assert states == dict.fromkeys(SERVICES, "healthy")


def test_the_images_are_small(deployment: Deployment) -> None:
    sizes = {image: deployment.image_size(image) / 1e6 for image in OURS}
    print({image: f"{size:.0f} MB" for image, size in sizes.items()})
    assert sizes["tidegate-serve"] < 900


@pytest.mark.parametrize("image", OURS)
def test_an_image_holds_no_compiler_no_secret_and_no_tests(
    deployment: Deployment, image: str
) -> None:
    compilers = "command -v gcc g++ cc c++ clang ld make git"
    names = "-name '*_key' -o -name '*_password' -o -name '*_token' -o -name '*.key'"
    secrets = f"find / -xdev \\( {names} \\)"
    # Where the sources were while it was built, and what a checkout has.
    sources = "ls -d /src /tests /deploy /models 2>/dev/null"
    assert deployment.in_image(image, f"{compilers}; {secrets}; {sources}; true") == ""
    found = "find / -xdev -type d -name tidegate -path '*/site-packages/*'"
    packages = deployment.in_image(image, f"{found} -exec ls {{}} +").split()
    expected = {"tidegate-serve": ["client", "serve", "v1"], "tidegate-train": ["train", "v1"]}
    assert packages == expected.get(image, [])


def test_the_trainer_has_the_kernels_that_were_compiled_for_it(deployment: Deployment) -> None:
    found = deployment.in_image("tidegate-train", "find / -xdev -path '*/kernels/prebuilt/*.so'")
    assert found != ""


def test_every_package_has_a_licence_that_allows_to_pass_it_on(deployment: Deployment) -> None:
    listed = deployment.make("licences").split("# tidegate-")[1:]
    assert len(listed) == len(OURS)
    for table in listed:
        name, *lines = table.splitlines()
        packages = {row["Name"]: row["License"] for row in csv.DictReader(lines)}
        packages = {one: licence for one, licence in packages.items() if one not in READ}
        assert len(packages) > 10, name
        refused = {
            package: licence
            for package, licence in packages.items()
            # The GNU GPL and AGPL ask for more than the image gives; the LGPL does not.
            if licence == "UNKNOWN" or re.search(r"(?<!L)\bA?GPL|(Affero|GNU) General", licence)
        }
        print(f"\n{name}: {len(packages)} packages")
        assert refused == {}, name


def test_containers_have_no_more_rights_than_they_need(deployment: Deployment) -> None:
    for name in SERVICES:
        found = deployment.inspect(name)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0, name
        if name in ("mlflow", "serve"):
            assert (found["Config"]["User"], host["CapAdd"]) == ("10001", None), name


def test_only_loopback_is_published_and_neither_database(deployment: Deployment) -> None:
    bindings = {name: deployment.inspect(name)["HostConfig"]["PortBindings"] for name in SERVICES}
    published = {name for name, ports in bindings.items() if ports}
    assert published == {"gateway", "mlflow", "prometheus"}
    hosts = {port["HostIp"] for ports in bindings.values() for (port,) in (ports or {}).values()}
    assert hosts == {"127.0.0.1"}


def test_the_databases_are_reached_only_by_who_needs_them(deployment: Deployment) -> None:
    reach = "timeout 3 bash -c '</dev/tcp/{}'"
    for address, friend in (("redis/6379", "serve"), ("postgres/5432", "mlflow")):
        assert deployment.succeeds(friend, reach.format(address))
        for stranger in {"serve", "mlflow", "gateway"} - {friend}:
            assert not deployment.succeeds(stranger, reach.format(address)), (stranger, address)


def test_redis_wants_its_password_and_lets_nobody_administer_it(deployment: Deployment) -> None:
    redis = ("exec", "redis", "sh", "-c")
    assert "NOAUTH" in deployment.compose(*redis, "redis-cli ping 2>&1")
    known = "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli "
    for command in ("CONFIG GET requirepass", "FLUSHALL", "KEYS '*'", "GET other"):
        assert "NOPERM" in deployment.compose(*redis, f"{known} {command} 2>&1"), command


def test_no_secret_is_in_a_command_line_or_the_environment(deployment: Deployment) -> None:
    folder = deployment.folder / "deploy" / "secrets"
    secrets = {file.read_text() for file in folder.iterdir() if file.suffix == ""}
    assert len(secrets) > 3
    for name in SERVICES:
        shown = json.dumps(deployment.inspect(name))
        assert [secret for secret in secrets if secret in shown] == [], name


def test_every_profile_is_valid(deployment: Deployment) -> None:
    profiles = {
        "train": {"train"},
        "gpu": {"serve-gpu", "train-gpu"},
        "dashboard": {"grafana"},
        "*": {"train", "serve-gpu", "train-gpu", "grafana"},
    }
    for profile, added in profiles.items():
        assert set(configuration(deployment, profile)) == {*SERVICES} | added, profile


def test_every_service_is_bounded_hardened_and_restarted(deployment: Deployment) -> None:
    for name, service in configuration(deployment, "*").items():
        assert int(service["mem_limit"]) > 0, name
        assert service["restart"] == ("no" if "train" in name else "unless-stopped"), name
        assert service["logging"]["options"] == {"max-file": "3", "max-size": "10m"}, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", name


def test_the_gpu_profile_asks_for_one_gpu_and_runs_the_networks_there(
    deployment: Deployment,
) -> None:
    services = configuration(deployment, "gpu")
    for name in ("serve-gpu", "train-gpu"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    server = services["serve-gpu"]
    assert server["entrypoint"] == ["tidegate-serve", "--provider=cuda"]
    assert server["build"]["args"] == {"RUNTIME": "onnxruntime-gpu[cuda,cudnn]"}
    # The gateway and Prometheus find it like the others.
    assert server["networks"]["tidegate"] == {"aliases": ["serve"]}
    assert server["command"] == services["serve"]["command"]


def configuration(deployment: Deployment, profile: str) -> dict[str, Any]:
    """The services that `docker compose` makes of the file, by name."""
    made = deployment.compose("--profile", profile, "config", "--format", "json")
    services: dict[str, Any] = json.loads(made)["services"]
    return services
