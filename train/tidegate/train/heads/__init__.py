"""Heads of a forecaster: what is said of the values to come."""

from typing import Literal, TypeAlias

from tidegate.train.heads.head import Distribution, Frame, Head, Shape
from tidegate.train.heads.negative_binomial import NegativeBinomialHead
from tidegate.train.heads.quantile import QuantileHead
from tidegate.train.heads.student_t import StudentTHead

HeadName: TypeAlias = Literal["quantile", "student_t", "negative_binomial"]
HEADS: dict[str, type[Head]] = {
    head.name: head for head in (QuantileHead, StudentTHead, NegativeBinomialHead)
}

__all__ = [
    "HEADS",
    "Distribution",
    "Frame",
    "Head",
    "HeadName",
    "NegativeBinomialHead",
    "QuantileHead",
    "Shape",
    "StudentTHead",
]
