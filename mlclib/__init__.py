"""Multi-label image classification, measured: the thin library behind the workbook's notebooks.

Its rooms are read from left to right, and a room imports only from rooms that stand left of it
(tests/test_layout.py holds it):

common      errors in one sentence, whole files, progress, what a result's code depends on
scores      metrics, calibration, confidence intervals and tests, published figures
datasets    one reader a file, downloads, integrity, label vectors and co-occurrence
transforms  how a picture becomes a tensor: evaluation, and each recipe's augmentation
models      one model a file, losses, backbones, authors' checkpoints
config      an experiment file, read and checked whole
training    one run: inputs, cached layer maps, the training loop
runs        run folders, the runs of an experiment, jobs and what is out of date, the check before a long run
attention   where a model looks, and whether that is right
tables      every table, by the notebook that shows it
figures     every figure, by the notebook that shows it
inference   a finished run at work on other images: predictions, ONNX
verify      whether results can be believed: recomputed, trained anew, sentences held to tables, on record
pages       what people look at: the notebooks' frame, the explorer, the pages of results
"""

ROOMS = (
    *("common", "scores", "datasets", "transforms", "models", "config", "training", "runs"),
    *("attention", "tables", "figures", "inference", "verify", "pages", "__main__"),
)
