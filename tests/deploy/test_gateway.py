"""The gateway's limits, as nginx is told them; what comes of them is seen in tests/compose."""

from __future__ import annotations

import re
from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy/gateway/nginx.conf"
# Without the server that answers the container's health check.
CONFIGURATION = FILE.read_text().partition("listen 127.0.0.1:8080;")[0]
LOCATIONS = dict(
    re.findall(r"^ {4}location ([^\n]+) \{\n(.*?)^ {4}\}$", CONFIGURATION, re.MULTILINE | re.DOTALL)
)
CALLS = next(name for name in LOCATIONS if "ListModels" in name)


def test_the_replica_with_the_fewest_connections_is_the_next() -> None:
    (upstream,) = re.findall(r"upstream replicas \{(.*?)\}", CONFIGURATION, re.S)
    assert "least_conn;" in upstream


def test_streams_may_be_silent_for_a_day_and_stay_for_an_hour_after_a_reload() -> None:
    streams = LOCATIONS["/"]
    for limit in ("client_body_timeout", "grpc_read_timeout", "grpc_send_timeout"):
        assert f"{limit} 1d;" in streams
    assert "client_max_body_size 0;" in streams
    assert "worker_shutdown_timeout 1h;" in CONFIGURATION


def test_calls_are_sent_again_and_streams_never() -> None:
    pattern = CALLS.removeprefix("~ ")
    again = ("Forecast", "AnnotateSentences", "ListModels", "GetModel")
    paths = [f"/tidegate.v1.InferenceService/{name}" for name in again]
    assert all(re.search(pattern, path) for path in [*paths, "/grpc.health.v1.Health/Check"])
    assert not re.search(pattern, "/tidegate.v1.InferenceService/StreamForecast")
    sent_again = [name for name, body in LOCATIONS.items() if "non_idempotent" in body]
    assert sent_again == [CALLS]
    assert "client_max_body_size 17m;" in LOCATIONS[CALLS]


def test_one_process_has_the_connections_of_four_thousand_streams() -> None:
    assert "worker_processes 1;" in CONFIGURATION
    (connections,) = re.findall(r"worker_connections (\d+);", CONFIGURATION)
    # Each stream takes one to its replica, and at most one from its client.
    assert int(connections) // 2 > 4000


def test_what_nginx_itself_refuses_has_a_status_of_grpc() -> None:
    pages = dict(re.findall(r"error_page ([\d ]+) (/\w+);", CONFIGURATION))
    statuses = {
        codes: re.findall(r"add_header grpc-status (\d+) always;", LOCATIONS[f"= {page}"])
        for codes, page in pages.items()
    }
    # UNAUTHENTICATED, RESOURCE_EXHAUSTED, UNAVAILABLE.
    assert statuses == {"495 496": ["16"], "413": ["8"], "502 504": ["14"]}
