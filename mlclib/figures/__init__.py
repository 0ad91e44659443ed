"""Every figure, by the notebook that shows it."""
