"""The scores of the literature on image annotation: five words an image, precision and recall of each word."""

import doctest

import numpy as np
import pytest

from mlclib.common.errors import UserError
from mlclib.metrics import scores
from mlclib.published import load


def plain(logits, targets, top):
    """The same, word by word and image by image."""
    given = [set(sorted(range(len(row)), key=lambda word: (-row[word], word))[:top]) for row in logits]
    precisions, recalls = [], []
    for word in range(targets.shape[1]):
        shows = {image for image, row in enumerate(targets) if row[word] == 1}
        gets = {image for image, words in enumerate(given) if word in words and targets[image][word] != 0}
        if shows:
            precisions.append(len(shows & gets) / len(gets) if gets else 0.0)
            recalls.append(len(shows & gets) / len(shows))
    p, r = float(np.mean(precisions)), float(np.mean(recalls))
    return {"P": p, "R": r, "F1": 2 * p * r / (p + r) if p + r else 0.0, "N+": sum(recall > 0 for recall in recalls)}


@pytest.mark.parametrize("seed", range(8))
def test_annotation_is_that_of_a_plain_loop_ties_and_unknown_cells_too(seed):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-4, 5, (30, 12)).astype(np.float32) if seed % 2 else rng.standard_normal((30, 12))
    targets = rng.choice([-1, 0, 1], (30, 12), p=(0.8, 0.05, 0.15))
    targets[:, seed] = -1  # a word that no image shows
    for top in (1, 5, 12):
        assert scores.annotation(logits, targets, top) == pytest.approx(plain(logits, targets, top))


def test_a_model_that_gives_the_words_shown_scores_all_of_them():
    targets = np.where(np.arange(40)[:, None] % 8 == np.arange(8), 1, -1)
    assert scores.annotation(1.0 * targets, targets, top=1) == {"P": 1.0, "R": 1.0, "F1": 1.0, "N+": 8}
    with pytest.raises(UserError, match="top must be"):
        scores.annotation(1.0 * targets, targets, top=0)


def test_the_example_in_its_docstring_holds():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    (example,) = finder.find(scores.annotation, globs={"np": np, "annotation": scores.annotation})
    assert runner.run(example) == doctest.TestResults(0, 3)


def test_published_figures_of_corel5k_are_percentages_of_260_words():
    rows = load("corel5k")
    assert rows[["P", "R"]].stack().between(20, 60).all() and rows["N+"].between(100, 260).all()
