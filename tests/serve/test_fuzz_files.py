"""Files and tokens that were changed at random: a clear error or a model that works, at once."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import psutil
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from support import onnx_models
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.errors import LoadError, ServingError
from tidegate.serve.inspection import describe
from tidegate.serve.loading import load_content
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.serve.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Random = np.random.Generator

NUMBERS = (0, 1, -1, 2, 3, 7, 16, 17, 255, 65_535, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))
NAMES = (
    *("", "x", "h", "h_next", "lengths", "quantiles", "GRU", "Scan", "Loop", "Pad", "Gather"),
    *("Split", "Where", "Sigmoid", "Reshape", "axis", "perm", "hidden_size", "reverse"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 2**31, "-1", "0", "1", "2147483648", 0.5, -1.0, 1e300),
    *("", "x", "h", "float32", "int64", "NFC", "FORECASTING", "CELL_LSTM", "NaN", [], {}, [[]]),
)
SEEDS = (
    onnx_models.forecaster("gru"),
    onnx_models.forecaster("lstm", differenced=True),
    onnx_models.labeller(),
)


def with_bytes_changed(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(len(changed) + 1))
        kind = random.integers(4)
        if kind == 0 and at < len(changed):
            changed[at] = random.integers(256)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + int(random.integers(1, 40))]
        else:
            changed[at:at] = changed[: int(random.integers(1, 40))]
    return bytes(changed)


def with_fields_changed(model: onnx.ModelProto, random: Random) -> bytes:
    """A file that is read, and says other things: what reaches native code."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(int(random.integers(1, 4))):
        messages = [one for one in _inner(changed.graph) if one.ListFields()]
        message = messages[int(random.integers(len(messages)))]
        fields = message.ListFields()
        field, value = fields[int(random.integers(len(fields)))]
        # Not every field holds every number.
        with suppress(ValueError):
            if field.is_repeated:
                _change_one_of(value, random)
            elif field.type != FieldDescriptor.TYPE_MESSAGE:
                setattr(message, field.name, _other(value, random))
            else:
                message.ClearField(field.name)
    return changed.SerializeToString()


def _inner(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                found += _inner(one)
    return found


def _change_one_of(values: Any, random: Random) -> None:
    at = int(random.integers(len(values)))
    kind = random.integers(3)
    if kind == 0:
        del values[at]
    elif kind == 1:
        values.append(values[int(random.integers(len(values)))])
    elif isinstance(values[at], Message):
        values[at].CopyFrom(values[int(random.integers(len(values)))])
    else:
        values[at] = _other(values[at], random)


def _other(value: Any, random: Random) -> Any:
    if isinstance(value, str):
        return NAMES[int(random.integers(len(NAMES)))]
    if isinstance(value, bytes):
        return with_bytes_changed(value, random)
    if isinstance(value, float):
        return float(random.choice([0.0, 1e38, np.nan, -1.0]))
    return NUMBERS[int(random.integers(len(NUMBERS)))]


def with_json_changed(text: str, random: Random) -> str:
    """The spec with a value replaced, left out or put elsewhere; or with letters changed."""
    if random.random() < 0.3:
        return with_bytes_changed(text.encode(), random).decode(errors="replace")
    document = json.loads(text)
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict | list):
            keys = list(value) if isinstance(value, dict) else range(len(value))
            for key in keys:
                places.append((value, key))
                visit(value[key])

    visit(document)
    for _ in range(int(random.integers(1, 4))):
        parent, key = places[int(random.integers(len(places)))]
        # It may have been replaced before, with what held it.
        with suppress(LookupError):
            if random.random() < 0.7:
                # What is read, and says other things.
                kind = type(parent[key])
                others = [value for value in VALUES if isinstance(value, kind)] or [kind()]
            else:
                others = [*VALUES]
            parent[key] = others[int(random.integers(len(others)))]
    return json.dumps(document)


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def fuzz(count: int, one: Callable[[Random], str]) -> tuple[Counter[str], int]:
    """Does something so often; what came of it, and how the memory grew over the second half."""
    seen: Counter[str] = Counter()
    middle = 0
    for number in range(count):
        seen[one(np.random.default_rng(number))] += 1
        if number == count // 2:
            middle = resident()
    grown = resident() - middle
    print(f"\n{count}: {dict(seen)}; memory {grown / 2**20:+.1f} MiB over the second half")
    return seen, grown


def fuzz_files(count: int) -> tuple[Counter[str], int]:
    """As the repository does: in another process first, then in this one."""
    with Trial(Settings(provider="cpu")) as trial:

        def one(random: Random) -> str:
            seed = SEEDS[int(random.integers(len(SEEDS)))]
            content = (
                with_fields_changed(seed, random)
                if random.random() < 0.8
                else with_bytes_changed(seed.SerializeToString(), random)
            )
            try:
                trial.check(content)
            except LoadError as error:
                return "ended its process" if "process that" in str(error) else "refused"
            load_content(content, "cpu", 1, tf32=False)
            return "loaded"

        return fuzz(count, one)


def fuzz_specs(count: int) -> tuple[Counter[str], int]:
    def one(random: Random) -> str:
        model = onnx.ModelProto()
        model.CopyFrom(SEEDS[int(random.integers(len(SEEDS)))])
        text = next(entry.value for entry in model.metadata_props if entry.key == "tidegate.spec")
        onnx_models.set_spec(model, with_json_changed(text, random))
        try:
            loaded = load_content(model.SerializeToString(), "cpu", 1, tf32=False)
        except LoadError:
            return "refused"
        assert all(list(describe(loaded.spec)))
        return "loaded"

    return fuzz(count, one)


def fuzz_tokens(count: int, folder: Path) -> tuple[Counter[str], int]:
    path = onnx_models.save(SEEDS[0], folder, "gru")
    model = load_model("gru", "1", path, Settings(provider="cpu"))
    signer = CheckpointSigner([bytes(32)])
    states = [bytes(state.nbytes) for state in model.states]
    token = signer.seal(model, "a", "ann", 7, states)

    def one(random: Random) -> str:
        changed = with_bytes_changed(token, random)
        try:
            restored = signer.open(changed, model, "a", "ann")
        except ServingError as error:
            return error.code.name
        assert changed == token
        assert restored.next_offset == 7
        return "the same"

    return fuzz(count, one)


def test_changed_files_are_refused_or_work() -> None:
    assert fuzz_files(60)[0]["refused"] > 10


def test_changed_specs_are_refused_or_work() -> None:
    assert fuzz_specs(60)[0]["refused"] > 10


def test_changed_checkpoints_are_refused(tmp_path: Path) -> None:
    seen, _ = fuzz_tokens(300, tmp_path)
    assert set(seen) <= {"INVALID_ARGUMENT", "the same"}


@pytest.mark.slow
def test_2_000_changed_files_specs_and_checkpoints_leave_nothing_behind(tmp_path: Path) -> None:
    for seen, grown in (fuzz_files(2_000), fuzz_specs(2_000), fuzz_tokens(2_000, tmp_path)):
        assert sum(seen.values()) == 2_000
        assert grown < 8 * 2**20
