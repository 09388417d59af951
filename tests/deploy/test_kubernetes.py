"""The manifests of deploy/kubernetes: valid for the API, and right among themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from tidegate.serve.options import build_parser
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.34"
SPARE_SECONDS = 5


def manifests() -> Iterator[dict[str, Any]]:
    for name in kustomization(FOLDER)["resources"]:
        if name.endswith(".yaml"):
            yield from yaml.safe_load_all((FOLDER / name).read_text())


def kustomization(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


ALL = list(manifests())
BY_NAME = {(one["kind"], one["metadata"]["name"]): one for one in ALL}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
WORKLOADS = [one for one in ALL if one["kind"] in ("Deployment", "StatefulSet", "CronJob")]


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    spec = workload["spec"]
    template = spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec
    pod: dict[str, Any] = template["template"]
    return pod


def name_of(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", ALL, ids=name_of)
def test_a_manifest_is_what_the_api_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_field_that_the_api_does_not_know_is_found() -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_file_is_part_of_the_base() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    listed = {name for name in kustomization(FOLDER)["resources"] if name.endswith(".yaml")}
    assert files == listed
    mounted = set()
    for name in kustomization(FOLDER)["resources"]:
        if not name.endswith(".yaml"):
            (generated,) = kustomization(FOLDER / name)["configMapGenerator"]
            assert all((FOLDER / name / file).is_file() for file in generated["files"])
            mounted.add(generated["name"])
    volumes = [one for workload in WORKLOADS for one in pod_of(workload)["spec"]["volumes"]]
    wanted = {one["configMap"]["name"] for one in volumes if "configMap" in one}
    assert wanted == mounted | {name for kind, name in BY_NAME if kind == "ConfigMap"}


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_a_pod_has_no_more_rights_than_it_needs(workload: dict[str, Any]) -> None:
    """What the "restricted" standard for pods asks for, and a read-only root."""
    pod = pod_of(workload)["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
    mine = pod.get("serviceAccountName") == "prometheus"
    assert mine or pod["automountServiceAccountToken"] is False


def test_what_selects_pods_finds_them() -> None:
    labels = [pod_of(workload)["metadata"]["labels"] for workload in WORKLOADS]

    def found(selector: dict[str, str]) -> bool:
        return any(selector.items() <= one.items() for one in labels)

    for manifest in ALL:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            assert found(spec["selector"]), name_of(manifest)
        for part in ("selector", "podSelector"):
            if "matchLabels" in spec.get(part, {}):
                assert found(spec[part]["matchLabels"]), name_of(manifest)
    target = BY_NAME["HorizontalPodAutoscaler", "serve"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in BY_NAME
    assert "replicas" not in BY_NAME["Deployment", "serve"]["spec"]


def test_a_drain_ends_before_the_pod_is_killed() -> None:
    pod = pod_of(BY_NAME["Deployment", "serve"])["spec"]
    (container,) = pod["containers"]
    arguments = dict(one.split("=", 1) for one in container["args"])
    notice = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(arguments["--drain-seconds"])
    assert notice + drain + SPARE_SECONDS <= pod["terminationGracePeriodSeconds"]
    # A draining server says NOT_SERVING: that may take it out of service, never kill it.
    assert "grpc" in container["readinessProbe"]
    assert "grpc" not in container["livenessProbe"]


def test_the_server_takes_its_arguments() -> None:
    (container,) = pod_of(BY_NAME["Deployment", "serve"])["spec"]["containers"]
    options = vars(build_parser().parse_args(container["args"]))
    options.pop("log_level")
    assert not Settings(**options).is_open


def test_the_same_arguments_as_in_docker_compose() -> None:
    (container,) = pod_of(BY_NAME["Deployment", "serve"])["spec"]["containers"]

    def names(arguments: list[str]) -> set[str]:
        return {one.partition("=")[0] for one in arguments}

    of_compose = names(COMPOSE["services"]["serve"]["command"]) | {"--provider"}
    # The models of a cluster come from the registry.
    assert names(container["args"]) == of_compose - {"--models"}


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_the_same_image_and_secrets_as_in_docker_compose(workload: dict[str, Any]) -> None:
    pod = pod_of(workload)["spec"]
    service = COMPOSE["services"][workload["metadata"]["name"]]
    (container,) = pod["containers"]
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"])
    assert container["image"] == image
    secrets = [one["secret"] for one in pod["volumes"] if "secret" in one]
    found = sorted(item["key"] for secret in secrets for item in secret["items"])
    names = [one["source"] if isinstance(one, dict) else one for one in service.get("secrets", ())]
    assert found == sorted(Path(COMPOSE["secrets"][name]["file"]).name for name in names)


@pytest.mark.parametrize(("database", "network"), [("postgres", "store"), ("redis", "states")])
def test_a_database_is_reached_by_whom_it_is_in_docker_compose(database: str, network: str) -> None:
    (rule,) = BY_NAME["NetworkPolicy", database]["spec"]["ingress"]
    found = {one["podSelector"]["matchLabels"]["app"] for one in rule["from"]}
    services = COMPOSE["services"].items()
    members = {name for name, service in services if network in service["networks"]}
    assert found == {name for name in members if not name.endswith("-gpu")} - {database}


def test_every_secret_is_one_that_the_scripts_write() -> None:
    written = (ROOT / "deploy/secrets.sh").read_text() + (ROOT / "deploy/certs.sh").read_text()
    for workload in WORKLOADS:
        for volume in pod_of(workload)["spec"]["volumes"]:
            for item in volume.get("secret", {}).get("items", ()):
                name = item["key"].removesuffix(".pem").removesuffix(".key")
                assert name in written, item["key"]
