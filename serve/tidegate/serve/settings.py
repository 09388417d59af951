"""Every limit and switch of the server, by topic, each with its default.

`Settings` is all the topics in one object. The command line has an option for
each field, and its help is the text that documents the field here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from tidegate.serve.address import is_loopback

Provider = Literal["cpu", "cuda", "auto"]

_MAY_BE_ZERO = {
    "port",
    "metrics_port",
    "checkpoint_max_age_seconds",
    "drain_seconds",
    "idle_seconds",
    "poll_seconds",
    "drain_old",
    "max_connection_age",
    "max_parity_error",
    "inline_rows",
    "trial_seconds",
    "trace_ratio",
}


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Models.

    Attributes:
        models: Folder of `<name>/<version>/model.onnx`.
        registry: Models of MLflow's registry, served in place of the folder's:
            "models:/co2@champion" or "models:/co2/3", with commas between several.
        registry_uri: Of MLflow's registry. Without it, what MLflow's own
            environment variables say.
        max_parity_error: A registered version whose `parity_max_abs`, the largest
            difference between ONNX Runtime and PyTorch, is above is not served.
        provider: Where the networks run. "cuda" refuses a model of which a
            recurrent operator would run elsewhere; "auto" is CUDA where it works,
            and the log, ListModels, the metric tidegate_model_info and the health of
            "provider/CUDAExecutionProvider" say whether it does.
        tf32: Lets CUDA round the inputs of matrix products to 10 bits: faster, and
            less exact than what the file was tested with.
        threads: Threads of ONNX Runtime within one run. More than one rarely
            pays for small recurrent networks.
        poll_seconds: Time between two looks for new versions and moved
            aliases, a fifth more or less; 0: they are never looked for.
        drain_old: Seconds for which a live stream may stay on a version that
            another one has replaced. Then it is asked to restart, and ended
            after drain_seconds.
        max_model_bytes: Size of all loaded ONNX files, with those of removed
            versions that streams still use; a version over it is not loaded.
        trial_seconds: Time for which a file may load and run in a process of its
            own, before it does in the server: some damaged files end the process
            that loads them. 0: files are not tried there.
    """

    models: Path = Path("models")
    registry: str = ""
    registry_uri: str = ""
    max_parity_error: float = 1e-3
    provider: Provider = "auto"
    tf32: bool = False
    threads: int = 1
    poll_seconds: float = 5.0
    drain_old: float = 600.0
    max_model_bytes: int = 4 * 2**30
    trial_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """Listening and leaving.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        workers: Processes that serve on this port, each with models, batches and
            limits of its own. Above 1, StreamForecast needs a state_store that
            they share.
        worker_timeout_seconds: Time for which the event loop of one of several
            workers may stand still; then the worker is killed and another one
            takes its place.
        drain_seconds: Time live streams get to leave after SIGTERM.
        max_connections: Open connections; one more is closed at once.
        keepalive_seconds: Time without a word after which a client is asked
            whether it is still there; one that does not answer within a third
            of it is gone. A client may ask the server as often.
        max_connection_age: Seconds after which a connection takes no new calls,
            a tenth more or less, so that clients spread over new replicas; 0: none.
        max_connection_age_grace: Seconds that the calls on it then still have.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    workers: int = 1
    worker_timeout_seconds: float = 30.0
    drain_seconds: float = 10.0
    max_connections: int = 4_096
    keepalive_seconds: float = 30.0
    max_connection_age: float = 0.0
    max_connection_age_grace: float = 600.0


@dataclass(frozen=True, kw_only=True)
class SecuritySettings:
    """Security.

    Attributes:
        tls_certificate: PEM file of the server's certificate and its chain.
            It, the key and the authorities are read again when they change.
        tls_key: PEM file of the certificate's private key.
        tls_client_ca: PEM file of the authorities whose client certificates are
            accepted; with it, a client must show one (mutual TLS).
        tokens: TOML file of bearer tokens with the roles infer, read or admin;
            with it, every call but health needs one. Read again when it changes.
        insecure: Allows a host that other machines can reach without TLS and
            without tokens.
    """

    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Live series and their checkpoints.

    Attributes:
        checkpoint_key_file: File of at least 32 bytes that signs checkpoints,
            the same for all replicas. Without it, tokens die with the process.
        checkpoint_accept_key_file: File of a second key whose checkpoints are
            accepted too. To rotate: let all replicas accept the new key, then
            sign with it and accept the old one, then drop the old one.
        checkpoint_max_age_seconds: Older checkpoints are refused; 0: none is.
        max_streams: Open StreamForecast calls.
        max_streams_per_connection: Open StreamForecast calls of one connection.
        slow_reader_seconds: Time for which an answer may wait for its client to
            read. Until then the stream is not read either; then it is ended.
        max_series: Series of one model, live and kept.
        idle_seconds: Time the state of a series is kept after the stream that
            held it has ended without finishing it. When max_series is reached,
            the series kept longest is dropped first.
        max_series_per_stream: Live series of one call.
        max_series_per_connection: Live series of all calls of one connection.
        max_key_bytes: Length of a series key in UTF-8.
        state_store: Where states are besides this process: "memory" is nowhere
            else, redis://HOST:PORT/DB lets any replica go on with a series.
        state_store_password_file: File of the store's password, read again for
            each connection; in place of one in the address, which all can read.
        state_ttl_seconds: Time the store keeps a state that nobody changes.
        state_timeout_seconds: Time the store has to answer.
        max_rows_per_chunk: Observations of one series in one message.
    """

    checkpoint_key_file: Path | None = None
    checkpoint_accept_key_file: Path | None = None
    checkpoint_max_age_seconds: float = 0.0
    max_streams: int = 10_000
    max_streams_per_connection: int = 1_024
    slow_reader_seconds: float = 60.0
    max_series: int = 131_072
    idle_seconds: float = 3_600.0
    max_series_per_stream: int = 16_384
    max_series_per_connection: int = 131_072
    max_key_bytes: int = 256
    state_store: str = "memory"
    state_store_password_file: Path | None = None
    state_ttl_seconds: float = 86_400.0
    state_timeout_seconds: float = 2.0
    max_rows_per_chunk: int = 8_192


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Runs of the network.

    Attributes:
        max_batch: Series, windows or sentences in one run of the network.
        max_batch_rows: Rows, padding included, in one run of the network; one
            longer chunk still runs, alone. Where words are read by their
            characters, each counts as the most characters that its model reads.
        long_rows: Messages of more rows than this run in a worker thread of
            their own, so that they do not hold up the others.
        inline_rows: Runs of up to this many rows happen on the event loop;
            larger ones in a worker thread, so that other streams are read
            meanwhile.
    """

    max_batch: int = 1_024
    max_batch_rows: int = 8_192
    long_rows: int = 1_024
    inline_rows: int = 64


@dataclass(frozen=True, kw_only=True)
class RequestSettings:
    """Limits of one message or request.

    Attributes:
        max_message_bytes: Size of a message received or sent.
        max_requests: Forecast and AnnotateSentences requests at a time.
        max_windows: Windows in one Forecast request.
        max_window_rows: Rows of one window.
        max_sentences: Sentences in one AnnotateSentences request.
        max_tokens: Tokens of one sentence.
        max_request_tokens: Tokens of all sentences in one request.
        max_token_bytes: Length of one token in UTF-8.
    """

    max_message_bytes: int = 16 * 2**20
    max_requests: int = 256
    max_windows: int = 1_024
    max_window_rows: int = 8_192
    max_sentences: int = 1_024
    max_request_tokens: int = 65_536
    max_tokens: int = 512
    max_token_bytes: int = 1_024


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """Metrics.

    Attributes:
        metrics_port: Port of `GET /metrics` for Prometheus, in plain HTTP; 0
            takes a free one. Without it there are no metrics.
        metrics_host: Address that it listens on.
    """

    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """Traces.

    Attributes:
        otlp_endpoint: Collector of OpenTelemetry traces, http://HOST:4317 or
            https://HOST:4317 (OTLP over gRPC). Without it there are no traces.
        trace_ratio: Share of the traces that begin at this server, 0 to 1. One
            that a client has begun is recorded if the client records it.
    """

    otlp_endpoint: str = ""
    trace_ratio: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Settings(
    ModelSettings,
    ListenSettings,
    SecuritySettings,
    StreamSettings,
    BatchSettings,
    RequestSettings,
    MetricsSettings,
    TraceSettings,
):
    """Settings of one server process; the topics above have the fields.

    Raises:
        ValueError: A value is out of range, or the host needs `insecure`.
    """

    def __post_init__(self) -> None:
        """Refuses values that could not work."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if value < 0 or (value == 0 and field.name not in _MAY_BE_ZERO):
                least = "at least 1" if isinstance(field.default, int) else "above 0"
                least = "at least 0" if field.name in _MAY_BE_ZERO else least
                raise ValueError(f"{field.name} is {value}; it must be {least}")
        if self.provider not in get_args(Provider):
            raise ValueError(f"provider is {self.provider!r}; use one of {get_args(Provider)}")
        if self.trace_ratio > 1:
            raise ValueError(f"trace_ratio is {self.trace_ratio}; it must be 0 to 1")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together; one of them is missing")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if self.is_open and not self.insecure:
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, and nothing is encrypted "
                "or authenticated: give --tls-certificate and --tls-key, or --tokens, or listen on "
                "127.0.0.1, or pass --insecure on a trusted network"
            )

    @property
    def is_open(self) -> bool:
        """Whether other machines reach the server, without TLS and without tokens."""
        return not (is_loopback(self.host) or self.tls_certificate or self.tokens)


TOPICS = Settings.__bases__
