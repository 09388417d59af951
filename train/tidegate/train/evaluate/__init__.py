"""Scores of a model on a part that it was not trained on."""
