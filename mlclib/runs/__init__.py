"""Experiments as runs and jobs: run folders, what is made, what is out of date, what a long run will take."""
