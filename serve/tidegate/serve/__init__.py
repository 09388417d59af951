"""Serves exported recurrent networks over gRPC, with NumPy and ONNX Runtime only."""

from tidegate.serve.errors import ServingError
from tidegate.serve.settings import Settings

__all__ = ["ServingError", "Settings"]
