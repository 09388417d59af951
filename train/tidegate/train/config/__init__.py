"""The configuration of a training run: one TOML file, the environment, the command line.

The command line wins over the environment (``TIDEGATE_TRAINING__EPOCHS=5``),
which wins over the file. One file here is one section of the TOML file. Only
the run sees a :class:`Config` (:mod:`tidegate.train.job`, ``build``, ``tasks``);
everything else takes plain arguments.
"""

from tidegate.train.config.config import Config
from tidegate.train.config.data import DataSettings
from tidegate.train.config.errors import ConfigError
from tidegate.train.config.reading import load, nested

__all__ = ["Config", "ConfigError", "DataSettings", "load", "nested"]
