"""The gRPC service: convert, call, convert."""

# gRPC fixes the names and the signatures of the methods.
# ruff: noqa: ARG002, N802

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from tidegate.serve.access import caller, identity, revocation
from tidegate.serve.calls import Context, observed, refuse
from tidegate.serve.errors import (
    INTERNAL_TEXT,
    NOT_A_MESSAGE_TEXT,
    Code,
    InvalidArgumentError,
    ResourceExhaustedError,
    ServingError,
)
from tidegate.serve.forecast import Window
from tidegate.serve.logs import call_fields
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tidegate.serve.model import Model
    from tidegate.serve.service import Service
    from tidegate.serve.stream_call import StreamCall
    from tidegate.serve.tokens import Token, TokenFile

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Result = TypeVar("Result")


def _with_status(
    method: Callable[[InferenceServicer, Request, Context], Awaitable[Result]],
) -> Callable[[InferenceServicer, Request, Context], Awaitable[Result]]:
    """Turns our errors into their status; anything else into a fixed text and a logged trace."""

    @functools.wraps(method)
    async def wrapped(self: InferenceServicer, request: Request, context: Context) -> Result:
        name, stats = method.__name__, self.stats
        with observed(name, context, stats, stream=name == "StreamForecast") as fields:
            if who := identity(context):
                fields["identity"] = who
            try:
                return await method(self, request, context)
            except ServingError as error:
                stats.errors[error.code.name, fields.get("model", "")] += 1
                await refuse(context, error)
            except DecodeError:
                # A message of a stream; unary ones never get here.
                await refuse(context, InvalidArgumentError(NOT_A_MESSAGE_TEXT))
            except Exception:
                logger.exception("%s failed", name)
                stats.errors[Code.INTERNAL.name, fields.get("model", "")] += 1
                await refuse(context, ServingError(INTERNAL_TEXT))

    return wrapped


class InferenceServicer(pb_grpc.InferenceServiceServicer):
    """`tidegate.v1.InferenceService` on top of a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.stats = service.stats
        self._writers: dict[StreamCall, _Writer] = {}
        self._streams_of: Counter[str] = Counter()

    @_with_status
    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """All models that are served."""
        repository = self._service.repository
        infos = [_info(model, repository.aliases(model)) for model in repository.list()]
        return pb.ListModelsResponse(models=infos)

    @_with_status
    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """What one model says about itself."""
        model = self._model(request.model)
        info = _info(model, self._service.repository.aliases(model))
        return pb.GetModelResponse(info=info, spec=model.spec)

    @_with_status
    async def Forecast(self, request: pb.ForecastRequest, context: Context) -> pb.ForecastResponse:
        """The forecast after each window."""
        model = self._model(request.model)
        windows = [Window(window.rows, window.values) for window in request.windows]
        quantiles = await self._service.forecast(model, windows, context.peer())
        return pb.ForecastResponse(
            model=model.name, version=model.version, quantiles=quantiles.tobytes()
        )

    @_with_status
    async def AnnotateSentences(
        self, request: pb.AnnotateSentencesRequest, context: Context
    ) -> pb.AnnotateSentencesResponse:
        """A label for each token."""
        model = self._model(request.model)
        sentences = [sentence.tokens for sentence in request.sentences]
        annotations = await self._service.annotate(model, sentences, context.peer())
        return pb.AnnotateSentencesResponse(
            model=model.name,
            version=model.version,
            annotations=[pb.Annotation(**annotation._asdict()) for annotation in annotations],
        )

    @_with_status
    async def StreamForecast(  # type: ignore[override] # it writes to its context, yields nothing
        self, request_iterator: object, context: Context
    ) -> None:
        """Forecasts along live series.

        Reading waits for the answers to the message before, so a client that
        does not read is not read either: memory stays bounded.
        """
        peer = context.peer()
        self._check_connection(peer)
        writer = _Writer(context)
        call = self._service.open_stream(identity(context), writer.post, peer)
        bucket = caller.get().bucket
        self._writers[call] = writer
        self._streams_of[peer] += 1
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                responses = await call.handle(request)
                if len(responses) > 1:
                    self._count_errors(call, responses)
                await writer.write(responses)
                if bucket is not None:
                    # Who sends too fast is read more slowly: nothing is lost.
                    await asyncio.sleep(bucket.reserve())
        except asyncio.CancelledError:
            if writer.ended is None:
                raise
            raise writer.ended from None
        finally:
            if call.model is not None:
                _note(call.model)
            del self._writers[call]
            self._streams_of[peer] -= 1
            if not self._streams_of[peer]:
                del self._streams_of[peer]
            self._service.close_stream(call)
            writer.close()

    def _check_connection(self, peer: str) -> None:
        limit = self._service.settings.max_streams_per_connection
        if self._streams_of[peer] >= limit:
            raise ResourceExhaustedError(
                f"all {limit} streams of this connection are taken "
                "(--max-streams-per-connection): send more series on one stream, or open another "
                "connection",
                retry_seconds=1.0,
            )

    def end_slow_readers(self) -> None:
        """Ends the streams whose answers have waited too long for their client to read."""
        limit = self._service.settings.slow_reader_seconds
        since = asyncio.get_running_loop().time() - limit
        for writer in tuple(self._writers.values()):
            if writer.writing_since is not None and writer.writing_since < since:
                writer.end(
                    ResourceExhaustedError(
                        f"the client has not read an answer for {limit:g} s "
                        "(--slow-reader-seconds): read answers while sending"
                    ),
                    at_once=True,
                )

    def end_revoked(self, tokens: TokenFile) -> None:
        """Ends the streams whose tokens are not in the file any more, after their checkpoints."""
        known: dict[Token, ServingError | None] = {}
        for call, writer in tuple(self._writers.items()):
            if writer.ended is not None or writer.token is None:
                continue
            if writer.token not in known:
                known[writer.token] = revocation(writer.token, tokens)
            error = known[writer.token]
            if error is not None:
                for response in call.checkpoints():
                    writer.post(response)
                writer.end(error)

    def tell(self, call: StreamCall, response: pb.StreamForecastResponse) -> None:
        """Sends a live stream what it has not asked for, as soon as the client reads."""
        if call in self._writers:
            self._writers[call].post(response)

    def end(self, call: StreamCall, error: ServingError) -> None:
        """Ends a live stream with the status of an error."""
        if call in self._writers:
            self._writers[call].end(error)

    async def announce_drain(self, seconds: float) -> None:
        """Tells every live stream that the server is about to stop."""
        await asyncio.gather(
            *(
                writer.write(call.draining(seconds))
                for call, writer in tuple(self._writers.items())
            ),
            # A stream that breaks meanwhile needs no notice.
            return_exceptions=True,
        )

    def _model(self, reference: pb.ModelReference) -> Model:
        model = self._service.repository.get(
            reference.name, version=reference.version, alias=reference.alias
        )
        _note(model)
        return model

    def _count_errors(self, call: StreamCall, responses: list[pb.StreamForecastResponse]) -> None:
        """Counts what single series were refused; the answer to the message comes after those."""
        name = call.model.name if call.model else ""
        for response in responses:
            if response.HasField("error"):
                self.stats.errors[Code(response.error.code).name, name] += 1


class _Writer:
    """Writes the answers to one message together, one message after the other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._now = asyncio.get_running_loop().time
        self._lock = asyncio.Lock()
        self.writing_since: float | None = None
        self._posted: list[pb.StreamForecastResponse] = []
        self._posting: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        self.ended: ServingError | None = None
        self.token = caller.get().token

    async def write(self, responses: list[pb.StreamForecastResponse]) -> None:
        async with self._lock:
            self.writing_since = self._now()
            try:
                for response in responses:
                    await self._context.write(response)
            finally:
                self.writing_since = None

    def post(self, response: pb.StreamForecastResponse) -> None:
        """Writes a notice as soon as the client reads; the caller does not wait for that."""
        self._posted.append(response)
        if self._posting is None:
            self._posting = asyncio.get_running_loop().create_task(self._write_posted())
            # A stream that breaks meanwhile needs no notice.
            self._posting.add_done_callback(lambda task: task.cancelled() or task.exception())

    def end(self, error: ServingError, *, at_once: bool = False) -> None:
        """Interrupts the call, wherever it waits; `ended` is why.

        Args:
            error: See above.
            at_once: Whether notices that wait for the client to read are given up.
        """
        self.ended = error
        if self._task is None:
            return
        if self._posting is None or at_once:
            self._task.cancel()
        else:
            self._posting.add_done_callback(lambda _: self._task and self._task.cancel())

    def close(self) -> None:
        """Gives up notices that the client has not read."""
        if self._posting is not None:
            self._posting.cancel()

    async def _write_posted(self) -> None:
        while self._posted:
            responses, self._posted = self._posted, []
            await self.write(responses)
        self._posting = None


def _note(model: Model) -> None:
    """Names the model in what is logged and counted of this call from here on."""
    fields = call_fields.get()
    if fields is not None:
        fields["model"] = model.name


def _info(model: Model, aliases: tuple[str, ...]) -> pb.ModelInfo:
    return pb.ModelInfo(
        name=model.name,
        version=model.version,
        aliases=aliases,
        task=model.spec.task,
        direction=model.spec.direction,
        sha256=model.sha256,
        provider=model.session.provider,
    )
