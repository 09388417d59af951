"""Where runs leave what they write."""

from pathlib import Path

# Of a run that is told no other folder.
DEFAULT_OUTPUT = Path(".tidegate/models")
