"""Multi-label image classification, measured: the thin library behind the workbook's notebooks.

Its rooms are read from left to right, and a room imports only from rooms that stand left of it
(tests/test_layout.py holds it; docs/design.md says how to add a model, a data set, a score, a table, a notebook):

common      errors in one sentence, whole files, progress, what a result's code depends on
metrics     scores, calibration, resampling, pairwise comparison of models
published   the figures that papers and repositories state, with their sources
datasets    one reader a file, downloads, integrity, label vectors and co-occurrence
transforms  how a picture becomes a tensor: evaluation, and each recipe's augmentation
models      one model a file, losses, backbones, authors' checkpoints
config      an experiment file, read and checked whole
training    one run: inputs, cached layer maps, the training loop
runs        run folders, the runs of an experiment, jobs and what is out of date, the check before a long run
results     one topic a file: its numbers, table, figure and sentence
attention   where a model looks, and whether that is right
inference   a finished run at work on other images: predictions, ONNX, the explorer
doctor      what is wrong with one's own labels and pictures, and how far they take a model
verify      whether results can be believed: computed again, trained again, on record
site        the pages of results
"""

ROOMS = (
    *("common", "metrics", "published", "datasets", "transforms", "models", "config", "training", "runs"),
    *("results", "attention", "inference", "doctor", "verify", "site", "__main__"),
)
