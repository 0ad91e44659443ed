"""Multi-label image classification, measured: the thin library behind the workbook's notebooks.

Its parts are layers, lowest first: a module imports only from its own layer and the layers above it in this list
(tests/test_layout.py checks it; docs/design.md says how to add a model, a data set, a score, a table, a notebook):

common      errors in one sentence, whole files, progress, what a result's code depends on
metrics     scores, calibration, resampling, pairwise comparison of models
published   the figures that papers and repositories state, with their sources
datasets    one reader per file, downloads, integrity, label vectors and co-occurrence
transforms  how a picture becomes a tensor: evaluation, and each recipe's augmentation
models      one model per file, losses, backbones, authors' checkpoints
config      an experiment file, read and checked whole
training    one run: inputs, cached layer maps, the training loop
runs        run folders, the runs of an experiment, jobs and what is out of date, the check before a long run
results     one topic per file: its numbers, table, figure and sentence
attention   where a model looks, and whether that is right
inference   a finished run at work on other images: predictions, ONNX, the explorer
doctor      what is wrong with one's own labels and pictures, and how far they take a model
verify      whether results can be believed: computed again, trained again, on record
site        the pages of results
"""
