"""The bytes of an ONNX file, loaded, checked against what they say of themselves, and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tidegate.serve.errors import LoadError
from tidegate.serve.operators import check_contract, count_operators
from tidegate.serve.proof import prove_streaming
from tidegate.serve.session import Session
from tidegate.serve.spec import StateLayout, check_spec, read_spec
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from tidegate.serve.settings import Provider


class Loaded(NamedTuple):
    """A file that can be served.

    Attributes:
        session: The loaded graph.
        spec: What the file says about itself.
        spec_text: The same as JSON, as the file has it.
        states: Layout of the states, in the order of the spec.
    """

    session: Session
    spec: pb.ModelSpec
    spec_text: str
    states: tuple[StateLayout, ...]


def load_content(content: bytes, provider: Provider, threads: int, *, tf32: bool) -> Loaded:
    """Loads, checks and warms up a file.

    Args:
        content: Of the file.
        provider: See `Session`.
        threads: See `Session`.
        tf32: See `Session`.

    Raises:
        LoadError: It cannot be served.
    """
    try:
        return _load(content, provider, threads, tf32=tf32)
    except LoadError:
        raise
    except Exception as error:
        # What fails first in a damaged file is anything: a name that is no UTF-8, a
        # shape, a run. ONNX Runtime's own exceptions share no base class but Exception.
        raise LoadError(f"the file is damaged: {error}") from error


def _load(content: bytes, provider: Provider, threads: int, *, tf32: bool) -> Loaded:
    session = Session(content, provider, threads, tf32=tf32)
    text = session.spec_text
    spec = read_spec(text)
    states = check_spec(spec, session.inputs, session.outputs)
    check_contract(spec, count_operators(content))
    session.warm_up()
    if spec.task == pb.TASK_FORECASTING:
        prove_streaming(session, spec, states)
    return Loaded(session, spec, text, states)
