"""Where a model looks, whether that is right, and what it has learnt about its labels."""
