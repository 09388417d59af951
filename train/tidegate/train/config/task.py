"""What a network is trained for."""

from typing import Literal

Task = Literal["forecasting", "labelling", "language_modelling"]
