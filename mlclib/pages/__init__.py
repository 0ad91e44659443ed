"""What people look at: the notebooks' frame, the explorer, an experiment's page and the index of all results."""
