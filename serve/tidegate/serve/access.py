"""Who calls, and whether they may."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from tidegate.serve.calls import observed, refuse
from tidegate.serve.errors import (
    PermissionDeniedError,
    ResourceExhaustedError,
    ServingError,
    UnauthenticatedError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from tidegate.serve.calls import Context
    from tidegate.serve.rate_limit import TokenBucket
    from tidegate.serve.stats import ServerStats
    from tidegate.serve.tokens import Token, TokenFile

_BEARER = "bearer "
# Who may ask a model for forecasts may know what they mean.
_ROLES = {
    "ListModels": ("read",),
    "GetModel": ("infer", "read"),
    "StreamForecast": ("infer",),
    "Forecast": ("infer",),
    "AnnotateSentences": ("infer",),
}


@dataclass(frozen=True)
class Caller:
    """Who makes a call.

    Attributes:
        token: What it has shown; None without tokens.
    """

    token: Token | None = None

    @property
    def name(self) -> str:
        """Of the token; empty without tokens."""
        return self.token.name if self.token else ""

    @property
    def bucket(self) -> TokenBucket | None:
        """Limits the messages; None: nothing does."""
        return self.token.bucket if self.token else None


_NOBODY = Caller()
caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def identity(context: Context) -> str:
    """Whom a series belongs to: the token's holder, else the owner of the client's certificate.

    Empty where clients are not told apart.
    """
    if name := caller.get().name:
        return f"token:{name}"
    properties: Mapping[str, Iterable[bytes]] = context.auth_context() or {}
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        for value in properties.get(key, ()):
            return f"certificate:{value.decode(errors='replace')}"
    return ""


def roles_of(method: str) -> tuple[str, ...]:
    """The roles of which a method needs one, by its full name; none: that is health."""
    service, _, name = method.removeprefix("/").partition("/")
    if service == health.SERVICE_NAME:
        return ()
    if service == reflection.SERVICE_NAME:
        return ("read",)
    return _ROLES.get(name, ("admin",))


def revocation(token: Token, tokens: TokenFile) -> ServingError | None:
    """Why a stream may not go on that was opened with a token; None: it may."""
    now = tokens.again(token)
    if now is None:
        return UnauthenticatedError(
            f"token {token.name!r} is not known to this server any more: its series are kept; go "
            "on with another token of that name"
        )
    if not now.may("infer"):
        return PermissionDeniedError(f"token {token.name!r} has not the role 'infer' any more")
    return None


class Gate(grpc.aio.ServerInterceptor):
    """Lets a call pass that has a token with the method's role and some of its rate left.

    Args:
        tokens: The tokens that are known.
        stats: Where refusals are counted.
    """

    def __init__(self, tokens: TokenFile, stats: ServerStats) -> None:
        self._tokens = tokens
        self._stats = stats

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Passes the call on, or answers it with the reason why not."""
        roles = roles_of(handler_call_details.method)
        if not roles:
            return await continuation(handler_call_details)
        try:
            token = self._authenticated(handler_call_details)
            self._authorized(token, roles)
        except ServingError as error:
            return _refusing(
                await continuation(handler_call_details),
                handler_call_details.method,
                error,
                self._stats,
            )
        caller.set(Caller(token))
        return await continuation(handler_call_details)

    def _authenticated(self, details: grpc.HandlerCallDetails) -> Token:
        for key, value in details.invocation_metadata or ():
            if key == "authorization" and isinstance(value, str):
                if not value.lower().startswith(_BEARER):
                    break
                token = self._tokens.find(value[len(_BEARER) :].strip())
                if token is None:
                    raise UnauthenticatedError("the bearer token is not known to this server")
                return token
        raise UnauthenticatedError(
            "this server wants a token: send the metadata `authorization: Bearer TOKEN`"
        )

    def _authorized(self, token: Token, roles: tuple[str, ...]) -> None:
        if not any(map(token.may, roles)):
            raise PermissionDeniedError(
                f"token {token.name!r} has the roles {sorted(token.roles)}; this call needs "
                f"{' or '.join(map(repr, roles))}"
            )
        wait = token.bucket.take() if token.bucket else 0.0
        if wait:
            raise ResourceExhaustedError(
                f"token {token.name!r} has made its requests of this second: try again in "
                f"{wait:.3f} s, or send more in each",
                retry_seconds=wait,
            )


def _refusing(
    handler: grpc.RpcMethodHandler[Any, Any] | None,
    method: str,
    error: ServingError,
    stats: ServerStats,
) -> grpc.RpcMethodHandler[Any, Any] | None:
    """A handler of the same kind that answers with an error."""
    if handler is None:
        return None
    name = method.rpartition("/")[2]

    async def answer(_: object, context: Context) -> None:
        with observed(name, context, stats, stream=False):
            stats.errors[error.code.name, ""] += 1
            await refuse(context, error)

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(answer)
    return grpc.unary_unary_rpc_method_handler(answer)
