"""Every table, by the notebook that shows it."""
