"""The loaded models, and how they follow their source."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from tidegate.serve.errors import LoadError, NotFoundError
from tidegate.serve.model import Model, load_model
from tidegate.serve.source import make_source
from tidegate.serve.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tidegate.serve.settings import Settings
    from tidegate.serve.source import Listed

logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """One name: its loaded versions in ascending order, and what its aliases point to."""

    versions: Mapping[str, Model]
    aliases: Mapping[str, str]


class Repository:
    """All models of a source.

    What is served changes as a whole, in `apply`; `prepare` does the work for
    it in any thread. A version that cannot be loaded changes nothing for
    those that are: it is logged and counted, and tried again when its file has
    changed.

    Attributes:
        failures: Versions that could not be loaded, and lists that could not
            be read (under the name ""), by name.

    Args:
        settings: Source, provider, threads and limit.

    Raises:
        LoadError: There is no model, or one of them cannot be served.
        ValueError: The source is named wrongly.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source = make_source(settings)
        self.failures: Counter[str] = Counter()
        # The text last logged of each failure, so that a log says it once.
        self._logged: dict[tuple[str, str], str] = {}
        # What is known to be wrong, as it was then: it is not tried again unchanged.
        self._wrong: dict[tuple[Path, str], tuple[tuple[int, int], LoadError]] = {}
        self._loaded: dict[str, Loaded] = {}
        # All that are in memory: streams hold removed ones for a while.
        self._held: WeakSet[Model] = WeakSet()
        with Trial(settings) as trial:
            for name, listed in self._source.list().items():
                versions = {
                    version: self._load(name, version, trial) for version in listed.versions
                }
                self._loaded[name] = Loaded(versions, listed.aliases)

    def aliases(self, model: Model) -> tuple[str, ...]:
        """Names that point to this version now."""
        one = self._loaded.get(model.name)
        aliases = one.aliases.items() if one else ()
        return tuple(sorted(alias for alias, version in aliases if version == model.version))

    def get(self, name: str, *, version: str = "", alias: str = "") -> Model:
        """Finds a model; without version and alias, its highest version.

        Raises:
            NotFoundError: The text lists what there is.
        """
        if name not in self._loaded:
            raise NotFoundError(
                f"there is no model {name!r}; this server has {sorted(self._loaded)}"
            )
        versions, aliases = self._loaded[name]
        if alias:
            if alias not in aliases:
                raise NotFoundError(
                    f"model {name!r} has no alias {alias!r}; it has {sorted(aliases)}"
                )
            return versions[aliases[alias]]
        if not version:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise NotFoundError(
                f"model {name!r} has no version {version!r}; it has {sorted(versions, key=int)}"
            )
        return versions[version]

    def find(self, name: str, version: str) -> Model | None:
        """A version that is loaded; None if it is not."""
        loaded = self._loaded.get(name)
        return loaded.versions.get(version) if loaded else None

    def prepare(self) -> Mapping[str, Loaded]:
        """Loads what is new in the source; returns what should be served from now on.

        Nothing is served differently until `apply`. One at a time.
        """
        try:
            listed = self._source.list()
        except LoadError as error:
            self._fail("", "", error)
            return self._loaded
        self._logged.pop(("", ""), None)
        loaded: dict[str, Loaded] = {}
        with Trial(self._settings) as trial:
            for name, one in listed.items():
                versions = dict(self._versions(name, one, trial))
                if versions:
                    loaded[name] = Loaded(versions, self._usable(name, one, versions))
        return loaded

    @property
    def is_source_failing(self) -> bool:
        """Whether the last list could not be read."""
        return ("", "") in self._logged

    def apply(self, loaded: Mapping[str, Loaded]) -> bool:
        """Serves what `prepare` returned; says whether that is anything new."""
        before, self._loaded = self._loaded, dict(loaded)
        return before != self._loaded

    def _versions(self, name: str, listed: Listed, trial: Trial) -> Iterator[tuple[str, Model]]:
        """The listed versions that are loaded already or can be loaded."""
        known = self._loaded[name].versions if name in self._loaded else {}
        found = False
        for version in listed.versions:
            model = known.get(version)
            if model is None:
                try:
                    model = self._load(name, version, trial)
                except LoadError as error:
                    self._fail(name, version, error)
                    continue
                self._logged.pop((name, version), None)
            found = True
            yield version, model
        if not found:
            # What takes their place cannot be loaded: these stay.
            yield from known.items()

    def _usable(self, name: str, listed: Listed, versions: dict[str, Model]) -> Mapping[str, str]:
        """The aliases; one whose new version failed stays where it was, with that version."""
        aliases = {}
        before = self._loaded.get(name, Loaded({}, {}))
        for alias, version in listed.aliases.items():
            if version in versions:
                aliases[alias] = version
            elif alias in before.aliases:
                aliases[alias] = before.aliases[alias]
                versions.setdefault(aliases[alias], before.versions[aliases[alias]])
        return aliases

    def _load(self, name: str, version: str, trial: Trial) -> Model:
        """Loads one version and counts it among those that are held in memory."""
        path, sha256 = self._source.fetch(name, version)
        try:
            status = path.stat()
        except OSError as error:
            raise LoadError(f"{path}: {error.strerror}") from error
        stamp = status.st_mtime_ns, status.st_size
        known, wrong = self._wrong.get((path, sha256), (None, None))
        if wrong is not None and known == stamp:
            raise wrong
        self._check_room(path, status.st_size + sum(one.size for one in self._held))
        try:
            model = load_model(name, version, path, self._settings, sha256, trial)
        except LoadError as error:
            self._wrong[path, sha256] = stamp, error
            raise
        self._held.add(model)
        return model

    def _check_room(self, path: Path, total: int) -> None:
        limit = self._settings.max_model_bytes
        if total > limit:
            raise LoadError(
                f"{path}: with it the models would have {total} bytes, over the limit of {limit} "
                "(--max-model-bytes): remove a version, or raise the limit"
            )

    def _fail(self, name: str, version: str, error: LoadError) -> None:
        self.failures[name] += 1
        text = str(error)
        if self._logged.get((name, version)) != text:
            self._logged[name, version] = text
            logger.error(
                "models cannot be loaded: %s", text, extra={"model": name, "version": version}
            )

    def list(self) -> list[Model]:
        """All models, by name and version."""
        return [model for one in self._loaded.values() for model in one.versions.values()]
