"""Export to ONNX: one file that runs anywhere, with no dropout left in it."""

from tidegate.train.export.exporter import export_onnx
from tidegate.train.export.parity import ParityError

__all__ = ["ParityError", "export_onnx"]
