"""Measurements, run by hand (`make bench`): nothing here is a test, and no test is timed."""
