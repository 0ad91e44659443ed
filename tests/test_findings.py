"""The sentences of finding below a notebook's tables and figures state what those hold, counted here another way."""

import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from made_runs import LABELS, make
from PIL import Image
from scipy.stats import spearmanr

from mlclib.attention import localisation
from mlclib.datasets.base import Dataset, Split
from mlclib.metrics import scores as metrics
from mlclib.models import title
from mlclib.results import ablation, calibration, data, literature, notebook, one_model, protocols
from mlclib.results import scores as performance
from mlclib.results.table import Table

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    return [make(tmp_path_factory.mktemp("hidden"), "gmp", marks=np.zeros((9, 5), dtype=np.int8))]


def split(marks, folder=None):
    names = [f"{row:06d}" for row in range(len(marks))]
    paths = [(folder or Path()) / f"{name}.png" for name in names]
    return Split(names, paths, np.asarray(marks, dtype=np.int8))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_below_every_figure_stands_what_it_finds(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "notebook.save_figure(" in cell.source:
            assert "notebook.finding(" in cell.source.partition("notebook.save_figure(")[2], cell.source


def test_a_finding_is_markdown_in_which_labels_mean_themselves():
    assert notebook.finding("cat_a and *dog* < 3").data == r"**Finding.** cat\_a and \*dog\* \< 3"


# The data set


def test_the_parts_differ_where_the_sentence_says():
    train, test = [[1, -1], [1, -1], [1, 1], [-1, 1]], [[1, 1], [1, -1], [1, -1], [1, 1]]
    sentence = data.parts_sentence(Dataset("made", ("a", "b"), {"train": split(train), "test": split(test)}))
    assert "1.25 in training, 1.50 in test" in sentence and "most in a, on 75.0 % and 100.0 % of" in sentence


def test_the_rarest_label_is_named_with_its_test_images_and_a_label_without_any_has_no_ap():
    marks = -np.ones((40, 3))
    marks[:35, 0], marks[:4, 1] = 1, 1
    sentence = data.frequency_sentence(Dataset("made", ("a", "b", "c"), {"test": split(marks)}))
    assert sentence.startswith("4 test images show b and 35 show a;")
    assert "fewer than 30 test images: 1 of 2." in sentence and "so without an AP: c." in sentence


def test_labels_come_together_by_their_correlation():
    shown = np.random.default_rng(0).random((50, 6)) < 0.4
    shown[:, 1] = shown[:, 0] | (np.arange(50) < 3)  # nearly the same
    counts = (shown.T.astype(int) @ shown) * (1 - np.eye(6, dtype=int))
    wanted = np.corrcoef(shown.T.astype(float))
    pairs = {(i, j): wanted[i, j] for i in range(6) for j in range(i + 1, 6)}
    (i, j), (k, m) = max(pairs, key=pairs.get), min(pairs, key=pairs.get)
    sentence = data.cooccurrence_sentence(counts, shown.sum(0), 50, list("abcdef"))
    assert f"{'abcdef'[i]} and {'abcdef'[j]} ({wanted[i, j]:+.2f}) occur together most" in sentence
    assert f"{'abcdef'[k]} and {'abcdef'[m]} ({wanted[k, m]:+.2f}) least".replace("-", "−") in sentence


def test_the_label_that_most_labels_learn_from_is_named():
    graph = np.array([[1, 0.1, 0], [0, 1, 0], [0.1, 0.1, 1]])  # rows learn from columns
    sentence = data.graphs_sentence({"msrn": graph}, ["a", "b", "c"])
    assert "start at b (to 2 of 3 labels)" in sentence and sentence.endswith("from another: 1.")


# One model


def history(mAP, loss, **images):
    frame = pd.DataFrame({"epoch": range(1, len(mAP) + 1), "loss": loss, "mAP": mAP})
    return SimpleNamespace(history=frame, about={"data": {"images": {"train": 9, **images, "test": 9}}})


def test_curves_are_of_the_validation_part_where_there_is_one():
    runs = [history([0.2, 0.7, 0.5, 0.6], [4, 2, 1, 0.5], val=5), history([0.2, 0.5, 0.5, 0.4], [4, 2, 1, 0.5], val=5)]
    left, right = one_model.curves_figure("msrn", runs).axes
    assert right.get_ylabel() == "validation mAP (%)" and right.get_title() == "Validation mAP: MSRN ends at 50.0%"
    np.testing.assert_allclose(right.lines[0].get_ydata(), [20, 60, 50, 50])
    sentence = one_model.curves_sentence(runs)
    assert "After epoch 3 the training loss changed by −50 % and the validation mAP by 0.0 points" in sentence
    assert "highest after epoch 2 of 4, 10.0 points above the last" in sentence and "test" not in sentence
    alone = [history([0.2, 0.3], [2, 1])]
    assert "no epoch may be chosen by this curve" in one_model.curves_sentence(alone)
    assert "not public" in one_model.curves_sentence([history([np.nan, np.nan], [2, 1])])


def test_the_table_of_the_configuration_and_its_sentence_are_those_of_the_runs(tmp_path):
    run = make(tmp_path, "gmp", 3)
    pd.DataFrame({"epoch": [1, 2], "loss": [2, 1], "mAP": [0.1, 0.2], "seconds": [4, 5], "images_per_second": [90, 110]}
    ).to_csv(run.folder / "history.csv")  # fmt: skip
    recipe = {"loss": "soft-margin", "optimizer": "adamw", "learning_rate": 2e-3, "schedule": "one-cycle"}
    run.about["configuration"]["training"] |= {**recipe, "weight_decay": 1e-4, "batch_size": 32}
    run.about["cost"] = {"parameters": 3_140_000, "head": 5_000_000, "backbone": 400_000_000}
    rows = one_model.configuration_table("gmp", [run]).frame.set_index("of its runs")["gmp"]
    assert rows["training of one run"] == "9 s, 100 images per second"
    assert rows["head learns"] == "3.14 M parameters" and "learning rate 0.002" in rows["optimizer"]
    sentence = one_model.configuration_sentence([run])
    assert sentence.startswith("1 run took 5 min on Made Processor. For one image the head computes 1.2 % of")
    run.about["checkpoint"] = "authors.pth"
    assert one_model.configuration_sentence([run]).startswith("Scoring the checkpoint took 5 min")


def test_the_hardest_labels_stand_first_with_what_is_missed_and_claimed(models):
    runs, seen = models["msrn"], np.array([50, 40, 5, 20, 10])
    table = one_model.hardest_table("msrn", runs, seen)
    frame = table.frame.set_index("label")
    assert frame["AP"].is_monotonic_increasing and set(frame.index) == set(LABELS)
    for c, label in enumerate(LABELS):
        aps = [100 * metrics.evaluate(run.logits["last"], run.targets)["AP"][c] for run in runs]
        assert frame["AP"][label] == pytest.approx(np.mean(aps))
        missed = [sum(run.logits["last"][i, c] < 0 for i in range(80) if run.targets[i, c] == 1) for run in runs]
        wrong = [sum(run.logits["last"][i, c] >= 0 for i in range(80) if run.targets[i, c] == -1) for run in runs]
        assert frame["missed, %"][label] == pytest.approx(100 * np.mean(missed) / (runs[0].targets[:, c] == 1).sum())
        assert frame["false alarms"][label] == pytest.approx(np.mean(wrong))
    sentence = one_model.hardest_sentence(table)
    assert sentence.startswith(f"The AP is lowest for {frame.index[0]} ({frame['AP'].iloc[0]:.1f}), {frame.index[1]}")
    rank = spearmanr(frame["training images"], frame["AP"]).statistic
    assert f"{rank:+.2f}".replace("-", "−") in sentence


def test_every_sentence_says_when_labels_are_not_public(hidden):
    table = one_model.hardest_table("gmp", hidden, np.arange(5))
    assert "not public" in one_model.hardest_sentence(table)
    assert "not public" in one_model.scores_sentence(performance.scores_table({"gmp": hidden}))
    assert "not public" in one_model.mistakes_sentence(hidden)
    assert "not public" in one_model.mistakes_figure(hidden, split(hidden[0].targets)).axes[0].texts[0].get_text()
    assert "not public" in protocols.changes_sentence(protocols.audit({"gmp": hidden}))
    assert "not public" in performance.per_class_sentence(performance.per_class_table({"gmp": hidden}))
    assert "not public" in calibration.calibration_sentence(calibration.calibration_table("gmp", hidden))
    assert "not public" in calibration.reliability_figure("gmp", hidden).axes[0].texts[0].get_text()


# The worst mistakes


def test_the_worst_mistakes_are_the_highest_false_alarms_and_the_lowest_misses(models):
    runs = models["gmp"]
    logits, marks = (runs[0].logits["last"] + runs[1].logits["last"]) / 2, runs[0].targets
    cells = [(logits[i, c], i, c) for i in range(80) for c in range(5)]
    alarms = sorted([cell for cell in cells if marks[cell[1:]] == -1 and cell[0] >= 0], reverse=True)
    misses = sorted(cell for cell in cells if marks[cell[1:]] == 1 and cell[0] < 0)
    for wrong, cells in zip(one_model.worst_mistakes(runs, 7), (alarms, misses), strict=True):
        assert wrong.tolist() == [list(cell[1:]) for cell in cells[:7]]
    sentence = one_model.mistakes_sentence(runs)
    assert sentence.startswith(f"The test images show {(marks == 1).sum()} labels. {len(misses)} labels are missed, ")
    assert f" {len(alarms)} labels are predicted wrongly, " in sentence


def test_the_pictures_of_the_mistakes_are_those_of_their_images(tmp_path):
    marks = -np.ones((6, 5), dtype=np.int8)
    marks[0, 2], marks[5, 1] = 1, 1
    run = make(tmp_path / "results", "gmp", gain=4.0, marks=marks)
    run.logits["last"][5, 1], run.logits["last"][3, 0] = -7.5, 6.5
    run.logits["last"][3, 1:] = -5
    for row in range(6):
        Image.new("RGB", (8, 8), (row, 0, 0)).save(tmp_path / f"{row:06d}.png")
    figure = one_model.mistakes_figure([run], split(marks, tmp_path), 3)
    predicted = "predicted: bus, logit +6.5\nshows no other label"
    missed = "missed: car, logit −7.5\nwith no other label"
    for place, words, row in ((0, predicted, 3), (3, missed, 5)):
        assert figure.axes[place].get_title() == words
        assert np.asarray(figure.axes[place].images[0].get_array())[0, 0, 0] == row
    assert not figure.axes[4].images  # there is no second one
    plt.close("all")


# Ablations and protocols


def test_the_ablation_sentence_names_the_largest_loss_and_what_may_be_chance(models):
    variants = {"2": models["gmp"], "2, 4": models["dsdl"], "2, 3, 4": models["msrn"]}
    table = ablation.axis_table("msrn", "layers", variants, models["msrn"])
    sentence = ablation.axis_sentence(table)
    assert sentence.startswith("The largest loss is that of layers 2: −")
    assert table.frame["q"][0] < 0.05 <= table.frame["q"][1]
    assert sentence.endswith("May be chance (q at least 0.05): layers 2, 4.")


def test_the_labels_that_change_beyond_noise_are_counted(models):
    table = ablation.per_class_table("msrn", "layers", {"2": models["gmp"], "2, 4": models["dsdl"]}, models["msrn"])
    real = [row for row in range(5) if (row, "2") not in table.marks]
    least = table.frame.loc[table.frame["2"][real].idxmin()]
    sentence = ablation.per_class_sentence(table)
    assert sentence.startswith(f"The variant 2 changes most labels: the AP of {len(real)} of 5 by more than chance.")
    assert f"{least['label']} ({least['2']:+.1f} points)".replace("-", "−") in sentence


def test_a_ranking_turns_where_means_over_seeds_change_their_order():
    values = {
        ("default", "default"): {"a": [70, 72], "b": [73, 73], "c": [60, 60]},
        ("AP", "envelope"): {"a": [80, 70], "b": [74, 74], "c": [60, 61]},  # a: 75 above b: 74
        ("AP", "11 points"): {"a": [73, 73], "b": [73, 73], "c": [60, 60]},  # a tie turns nothing
    }
    rows = [(*at, "mAP", model, seed) for at, by in values.items() for model in by for seed in by[model]]
    frame = pd.DataFrame(rows, columns=["kind", "choice", "score", "model", "value"])
    (row,) = protocols.reversals(frame).to_dict("records")
    assert (row["above score"], row["below score"], row["margin"]) == (75, 74, 1)
    sentence = protocols.reversals_sentence(frame)
    assert "under AP, envelope, mAP of a (75.0) is above that of b (74.0)" in sentence
    assert "No choice changes the ranking by CF1 or OF1." in sentence


def test_choices_without_anything_to_make_them_from_are_named_and_others_counted(models):
    sentence = protocols.changes_sentence(protocols.audit(models))
    worth = protocols.changes(protocols.audit(models))["mean"].abs().groupby(["kind", "choice"]).max().dropna()
    assert len(worth) == 12 and sentence.startswith(f"{(worth >= 1).sum()} of 12 choices of protocol change")
    assert "epoch: moving average of the weights" in sentence.partition("kept nothing for")[2]


# Scores, cost, published figures and tuning


def test_the_model_with_the_highest_ap_of_most_labels_is_named(models):
    table = performance.per_class_table(models)
    highest = table.frame.iloc[:-1][list(models)].to_numpy().argmax(axis=1)
    sentence = performance.per_class_sentence(table)
    assert sentence.startswith("Number of labels, of 5, on which a model has the highest AP")
    for at, model in enumerate(models):
        assert (f"{title(model)} {(highest == at).sum()}" in sentence) == (at in highest)


def test_the_distance_to_the_highest_published_map_is_stated_where_rows_compare():
    frame = pd.DataFrame(
        {"method": ["A", "B", "c (ours)"], "mAP": [90.0, 94.0, 93.0], "Δ mAP": [3.0, -1.0, 0.0],
         "made": [literature.STATED, literature.STATED, "trained here"]}
    )  # fmt: skip
    sentence = literature.published_sentence([Table("x", "x", frame, "")])
    assert sentence.startswith("Of 2 published mAPs the highest is that of B: 94.0 %.")
    assert sentence.endswith("The highest here differs from it by −1.0 points.")
    apart = Table("x", "x", frame.assign(**{"Δ mAP": np.nan}), "")
    assert "No difference to the scores here is stated" in literature.published_sentence([apart])
    assert literature.published_sentence([]) == "This project has no published mAP of this data set."


def test_maps_that_beat_both_blind_ones_are_named_by_the_size_of_things():
    curves = {
        ("mean", "2"): (0.05, 0.1),
        ("mean", "4"): (0.1, 0.7),
        ("mean", "all"): (0.1, 0.6),
        ("grad-cam", "4"): (0.7, 0.7),
        ("weighted", "4"): (0.3, 0.4),
        ("centre", ""): (0.5, 0.5),
        ("random", ""): (0.2, 0.2),
    }
    rows = [
        (*key, size, value) for key, by in curves.items() for size, value in zip(("small", "large"), by, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["method", "layer", "size", "curve"])
    frame["size"] = pd.Categorical(frame["size"], ["small", "medium", "large"])
    sentence = localisation.figure_finding(frame)
    assert "Mean localises small things best in layer 4 (0.10, blind 0.50)" in sentence
    assert "large things best in layer 4 (0.70, blind 0.50)" in sentence
    sizes = re.findall(r"saw no image on things of (\w+) size", sentence)
    assert sizes == ["large", "every", "no"]
    assert "no boxes" in localisation.figure_finding(frame[:0])


def test_by_label_the_best_map_names_its_ends():
    frame = pd.DataFrame(
        {"label": ["a", "b", "c"], "things": [3, 3, 3], "share": [10, 20, 30], "mean": [1.0, 2.0, 3.0],
         "grad-cam": [20.0, 50.0, 90.0], "centre": [99.0, 99.0, 99.0]}
    )  # fmt: skip
    sentence = localisation.tables_finding([None, Table("x", "x", frame, "")])
    assert sentence == (
        "By area under the localisation curve grad-cam maps are best for c (90) and worst for a (20). Labels of larger "
        "things are localised better (rank correlation +1.00)."
    )
    assert "no boxes" in localisation.tables_finding([])
