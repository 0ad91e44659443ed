"""Multi-label image classification, measured: the thin library behind the workbook's notebooks.

Imports run one way only, from left to right (tests/test_layout.py holds it):
errors, files, progress -> metrics, significance, published -> config -> datasets -> labels, transforms -> authors,
models -> inputs, features -> training -> runs -> captions, rendering, protocols, tables, reports -> attention,
pictures, plots -> predict, explorer, export -> execution, notebook -> __main__.
"""
