"""Scores of predictions, whether differences are real, and the figures that others published."""
