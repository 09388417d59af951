"""Export to ONNX: one file that runs anywhere, with no dropout left in it."""

from tidegate.train.export.check import check_file
from tidegate.train.export.contract import ContractError
from tidegate.train.export.exporter import Judge, WeightFormat, export_onnx
from tidegate.train.export.parity import ParityError, Provider

__all__ = [
    "ContractError",
    "Judge",
    "ParityError",
    "Provider",
    "WeightFormat",
    "check_file",
    "export_onnx",
]
