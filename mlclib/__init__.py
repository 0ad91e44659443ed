"""Multi-label image classification, measured: the thin library behind the workbook's notebooks.

Imports run one way only, from left to right (tests/test_layout.py holds it):
errors -> files -> metrics -> config -> datasets -> labels, transforms -> models
-> inputs -> features -> training -> runs -> attention, tables -> plots -> notebook -> __main__.
"""
