"""The gRPC server: its sockets, health, reflection and its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tidegate.serve import tracing
from tidegate.serve.address import join_address
from tidegate.serve.calls import ByteCounter
from tidegate.serve.connections import channel_options
from tidegate.serve.decoding import DecodingInterceptor
from tidegate.serve.health import HealthServicer
from tidegate.serve.metrics import registry_of
from tidegate.serve.metrics_server import MetricsServer
from tidegate.serve.rollover import Rollover
from tidegate.serve.security import Security
from tidegate.serve.service import Service
from tidegate.serve.servicers import InferenceServicer
from tidegate.serve.session import CPU, CUDA
from tidegate.serve.watcher import Watcher
from tidegate.v1 import inference_pb2, inference_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.serve.settings import Settings
    from tidegate.serve.tokens import TokenFile

SERVICE_NAME = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name

# The state store in the health service.
STORE_NAME = "tidegate.state_store"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_IDLE_CHECK_SECONDS = 0.02
# A token that was taken away is of no use after this time.
_TOKENS_SECONDS = 1.0
# Time to write the last states, also after a drain that took all of its own.
_STORE_SECONDS = 1.0
# A batch of 256 messages is thousands of objects that live for milliseconds: at Python's 700 each
# batch is searched for garbage several times. What is left of a call of gRPC's is garbage that is
# old when it ends, so the older generations are searched more often than Python would.
_GARBAGE_OBJECTS = 5_000
logger = logging.getLogger(__name__)


class Server:
    """Listens and serves until told to drain.

    Attributes:
        port: The port it listens on, known after `start`.
        metrics_port: The port of the metrics, known after `start`; None: no metrics.

    Args:
        settings: Everything configurable.

    Raises:
        LoadError: A model cannot be served.
        ValueError: The checkpoint key, or a file of tokens or certificates, cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._security = Security(settings)
        self._service = Service(settings)
        self._store_tasks: set[asyncio.Task[None]] = set()
        self._servicer = InferenceServicer(self._service)
        self._rollover = Rollover(self._service, self._servicer)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="tidegate-load")
        self._tasks: list[asyncio.Task[None]] = []
        self._shown: set[str] = set()
        self._metrics: MetricsServer | None = None
        self.port = settings.port
        self.metrics_port = settings.metrics_port

    async def start(self) -> None:
        """Binds the port and begins to serve.

        Raises:
            OSError: A port cannot be bound.
        """
        settings, stats = self._settings, self._service.stats
        tracing.start(settings.otlp_endpoint, settings.trace_ratio)
        self._serve_metrics()
        self._server = grpc.aio.server(
            interceptors=[
                *self._security.interceptors(stats),
                ByteCounter(stats),
                DecodingInterceptor(),
            ],
            options=channel_options(settings),
        )
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self._servicer, self._server)
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        address = join_address(settings.host, settings.port)
        try:
            self.port = self._security.add_port(self._server, address)
        except RuntimeError as error:
            self._close_metrics()
            raise OSError(f"cannot listen on {address}: is it in use?") from error
        self._service.on_store = self._show_store
        self._service.on_resumed = self._rollover.check
        self._service.on_closed = self._rollover.forget
        self._service.start()
        await self._server.start()
        await self._health.set("", _SERVING)
        await self._health.set(SERVICE_NAME, _SERVING)
        await self._show_models()
        self._tasks.append(asyncio.create_task(self._end_slow_readers()))
        if self._security.tokens is not None:
            self._tasks.append(asyncio.create_task(self._end_revoked(self._security.tokens)))
        if settings.poll_seconds:
            watcher = Watcher(self._service.repository, self._loader, self._models_changed)
            self._tasks.append(asyncio.create_task(watcher.run(settings.poll_seconds)))
        if self._service.store_status is not None:
            await self._health.set(STORE_NAME, _SERVING)

    def _show_store(self, available: bool) -> None:
        """Streams go on without the store, so only its own name says that it is gone."""
        status = _SERVING if available else _NOT_SERVING
        task = asyncio.get_running_loop().create_task(self._health.set(STORE_NAME, status))
        self._store_tasks.add(task)
        task.add_done_callback(self._store_tasks.discard)

    async def drain(self) -> None:
        """Refuses new streams, tells the live ones, and ends within `drain_seconds`."""
        seconds = self._settings.drain_seconds
        deadline = asyncio.get_running_loop().time() + seconds
        # First of all, so that no balancer sends another stream here to be refused.
        await self._health.enter_graceful_shutdown()
        self._service.draining = True
        for task in self._tasks:
            task.cancel()
        self._rollover.close()
        logger.info("draining", extra={"streams": len(self._service.calls), "seconds": seconds})
        try:
            async with asyncio.timeout_at(deadline):
                await self._servicer.announce_drain(seconds)
        except TimeoutError:
            logger.warning("some streams did not read the notice")
        await self._stop(max(0.0, deadline - asyncio.get_running_loop().time()))
        await self._service.stop(max(_STORE_SECONDS, deadline - asyncio.get_running_loop().time()))
        self._loader.shutdown()
        await asyncio.to_thread(tracing.stop)
        self._close_metrics()

    async def _stop(self, seconds: float) -> None:
        """Ends the calls after some seconds, or as soon as only watchers of health are left."""
        stopping = asyncio.create_task(self._server.stop(seconds))
        while not (stopping.done() or self._service.is_idle):
            await asyncio.wait([stopping], timeout=_IDLE_CHECK_SECONDS)
        self._health.end_watches()
        await stopping

    async def _end_slow_readers(self) -> None:
        while True:
            await asyncio.sleep(self._settings.slow_reader_seconds / 4)
            self._servicer.end_slow_readers()

    async def _end_revoked(self, tokens: TokenFile) -> None:
        while True:
            await asyncio.sleep(_TOKENS_SECONDS)
            self._servicer.end_revoked(tokens)

    async def _models_changed(self) -> None:
        await self._show_models()
        self._rollover.check()
        self._service.forget_removed()

    async def _show_models(self) -> None:
        """Health has each model under its name beside the server as a whole, which is "".

        Each provider is healthy if all models run on it.
        """
        models = self._service.repository.list()
        running = {model.session.provider for model in models}
        for provider in (CPU, CUDA):
            status = _SERVING if running == {provider} else _NOT_SERVING
            await self._health.set(f"provider/{provider}", status)
        names = {model.name for model in models}
        for name in self._shown - names:
            await self._health.set(name, _NOT_SERVING)
        for name in names:
            await self._health.set(name, _SERVING)
        self._shown |= names

    def _serve_metrics(self) -> None:
        settings = self._settings
        if settings.metrics_port is not None:
            self._metrics = MetricsServer(
                registry_of(self._service), settings.metrics_host, settings.metrics_port
            )
            self.metrics_port = self._metrics.port

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()


async def serve(settings: Settings, announce: Callable[[Server], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    Args:
        settings: Everything configurable.
        announce: Gets the server when it is ready.
    """
    server = Server(settings)
    await server.start()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            # From here on the signals have their default effect.
            loop.remove_signal_handler(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # What is loaded stays: the garbage collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 1, 1)
    announce(server)
    await stop.wait()
    await server.drain()
