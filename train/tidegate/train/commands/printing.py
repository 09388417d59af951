"""What several commands print."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tidegate.v1.model_spec_pb2 import ModelSpec, Parity


def print_line(line: str) -> None:
    """Prints a line as it is, however long."""
    Console(soft_wrap=True).print(line, highlight=False, markup=False)


def print_parity(path: Path, spec: ModelSpec) -> None:
    """Says which file was written, and how far it is from PyTorch."""
    print_line(f"wrote {path}; largest difference from PyTorch {parity_text(spec.parity)}")


def parity_text(parity: Parity) -> str:
    """The largest differences in words."""
    return (
        f"{parity.max_absolute_error:.1e}, relative {parity.max_relative_error:.1e}, in "
        f"{parity.cases} cases ({parity.largest_at})"
    )


def print_metrics(title: str, metrics: Mapping[str, float]) -> None:
    """Prints scores as a table."""
    table = Table("metric", "value", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
