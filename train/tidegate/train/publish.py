"""Puts an exported file where a server finds it."""

import hashlib
import json
import shutil
from pathlib import Path


def publish(
    path: str | Path, repository: str | Path, name: str, version: str, alias: str | None = None
) -> Path:
    """Copies a file to ``<repository>/<name>/<version>/model.onnx``.

    Its checksum goes beside it, as ``model.onnx.sha256`` for ``sha256sum -c``.
    A published version never changes: another file takes another version.

    Args:
        path: of the ONNX file.
        repository: the folder that ``tidegate-serve --models`` reads.
        name: of the model.
        version: a whole number.
        alias: moves to this version, in ``<repository>/<name>/aliases.json``.

    Returns:
        The path of the copy.

    Raises:
        ValueError: the version is no whole number, or is there with other contents.
    """
    if not version.isdecimal():
        raise ValueError(f"version={version!r} is no whole number; give '1', '2', ...")
    source = Path(path)
    folder = Path(repository) / name
    target = folder / version / "model.onnx"
    if target.exists() and target.read_bytes() != source.read_bytes():
        raise ValueError(f"version={version!r} of {name!r} exists in {repository}; give a new one")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The checksum first: a server takes a file as soon as it is there.
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    target.with_name("model.onnx.sha256").write_text(f"{digest}  model.onnx\n")
    _replace(target, source)
    if alias is not None:
        _move_alias(folder / "aliases.json", alias, version)
    return target


def _replace(target: Path, source: Path) -> None:
    """In one piece: a server may be reading."""
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _move_alias(file: Path, alias: str, version: str) -> None:
    aliases: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    aliases[alias] = version
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(aliases, indent=2, sort_keys=True) + "\n")
    temporary.replace(file)
