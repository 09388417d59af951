"""What the parts of the serving benchmarks know of their model."""

NAME = "gru"
FEATURES = 8
HORIZON = 4
QUANTILES = (0.1, 0.5, 0.9)
