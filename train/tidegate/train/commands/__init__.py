"""The commands of ``tidegate-train``: a file for each, with its options and what it prints.

What loads MLflow, which takes seconds, is imported where it is used: ``data list``
and ``--help`` do without.
"""

from tidegate.train.commands.command import Command, read_settings
from tidegate.train.commands.data import DATA
from tidegate.train.commands.evaluate import EVALUATE
from tidegate.train.commands.export import EXPORT
from tidegate.train.commands.fit import FIT
from tidegate.train.commands.tune import TUNE

# In the order of the help.
COMMANDS: dict[str, Command] = {one.name: one for one in (FIT, TUNE, EVALUATE, EXPORT, DATA)}

__all__ = ["COMMANDS", "Command", "read_settings"]
