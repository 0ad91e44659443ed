"""Figures show what they were given, and their titles state what the numbers say."""

import io
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mlclib.attention import faithfulness, learnt, localisation, maps, pictures
from mlclib.attention.learnt import Learnt
from mlclib.attention.maps import Key
from mlclib.inference import predict
from mlclib.results.style import safe_file_name


@pytest.fixture(scope="module")
def subject(tiny_study):
    return predict.model_on_split(tiny_study, "msrn")


@pytest.fixture(scope="module")
def shown(subject):
    return maps.examples(subject, [0, 1])


def png(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return np.asarray(Image.open(file).convert("RGB"))


def test_a_grid_has_a_row_an_example_and_a_panel_a_map(shown, subject):
    figure = pictures.examples(shown, subject)
    assert len(figure.axes) == len(shown) * 5  # the image, layers 2, 3, 4 and Grad-CAM
    assert figure.axes[0].get_title().startswith(f"{subject.labels[shown[0].label]}: {shown[0].probability:.2f}")
    assert [axes.get_title() for axes in figure.axes[1:5]] == [
        "weighted, layer 2", "weighted, layer 3", "weighted, layer 4", "grad-cam, all layers",
    ]  # fmt: skip
    assert len(figure.axes[0].patches) == 2 * len(shown[0].boxes)
    right = sum((one.probability >= 0.5) == (one.target == 1) for one in shown)
    assert figure.get_suptitle().startswith(f"{right} of {len(shown)} labels recognised")


def test_a_map_is_bright_where_it_is_high():
    map = torch.zeros(112, 112)
    map[:56] = 1
    figure = pictures.grid([Image.new("RGB", (64, 64))], ["x"], [{Key("grad-cam", "4"): map}])
    box = figure.axes[1].get_window_extent()
    drawn = png(figure)
    scale = 60 / figure.dpi
    x, height = int(scale * (box.x0 + box.x1) / 2), drawn.shape[0]
    top, bottom = drawn[height - int(scale * (box.y1 - 20)), x], drawn[height - int(scale * (box.y0 + 20)), x]
    assert top.astype(int).sum() > bottom.astype(int).sum() + 100


def test_the_localisation_figure_states_how_far_a_label_s_own_map_is_ahead():
    keys = [("weighted", "2"), ("weighted", "all"), ("centre", ""), ("random", "")]
    rows = [(row, size, *key, 0.2, 0.2, 0.2, 0.1) for row in range(4) for size in ("small", "large") for key in keys]
    frame = pd.DataFrame(rows, columns=["row", "size", "method", "layer", *localisation.SCORES, "specific"])
    frame["size"] = pd.Categorical(frame["size"], list(localisation.SIZES))
    figure = localisation.figure(frame)
    assert figure.get_suptitle().endswith("weighted +0.10 [+0.10, +0.10]")
    assert [axes.get_ylabel() for axes in figure.axes] == list(localisation.SCORES.values())
    assert "no boxes" in localisation.figure(frame[:0]).axes[0].texts[0].get_text()


def test_intervals_hold_the_mean_and_come_from_images_not_labels():
    frame = pd.DataFrame({"row": [0] * 50 + [1], "curve": [1.0] * 50 + [0.0]})
    mean, low, high = localisation.mean_interval(frame, "curve")
    assert mean == pytest.approx(50 / 51) and low == 0 and high == 1  # two images: all or nothing


def test_faithfulness_says_how_far_the_best_map_is_from_the_random_one_and_what_its_first_step_hides(subject, shown):
    frame = faithfulness.faithfulness(subject, shown, steps=2)
    areas = faithfulness.curve_areas(frame).set_index(["method", "layer"])
    deletion, insertion = faithfulness.figure(frame).get_suptitle().splitlines()
    for curve, line, best in (("deletion", deletion, "idxmin"), ("insertion", insertion, "idxmax")):
        means = areas.groupby(level=[0, 1], sort=False)[curve].mean()
        key = getattr(means.drop(index=["centre", "random"], level=0), best)()
        gain = means[key] - means["random", ""]
        assert line.startswith(f"{curve.capitalize()}: {Key(*key)} is {gain:+.2f} [")
    steps = frame[frame["curve"] == "deletion"].groupby(["method", "share"])["probability"].mean()
    sentence = faithfulness.finding(frame)
    assert sentence.startswith("When the 50 % of the picture") and f"falls from {steps['mean', 0]:.2f} to" in sentence
    assert f"Hidden at random, it falls to {steps['random', 0.5]:.2f}" in sentence


def test_groups_have_a_map_each_and_models_without_groups_no_figure(tiny_study, subject):
    learned = learnt.learnt(subject)
    figure, count = pictures.groups(subject, [0, 1], learned), learned.shares.shape[1]
    assert len(figure.axes) == 2 * (1 + count)
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes[1 : 1 + count]]
    assert titles == [f"group {number}" for number in range(count)]
    gmp = predict.model_on_split(tiny_study, "gmp")
    assert pictures.groups(gmp, [0, 1], learnt.learnt(gmp)) is None


def test_the_titles_of_graph_and_vectors_count_edges_within_groups_and_neighbours_that_stay():
    adjacency = np.array([[1, 0, 0, 0], [0.2, 1, 0, 0], [0, 0, 1, 0.2], [0, 0, 0.2, 1]])
    assignment = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], float)
    for graph, within in ((adjacency, "100% of edges join labels of one group"), (np.eye(4), "The graph has no edges")):
        title = learnt.label_graph(Learnt(list("abcd"), None, None, assignment, graph)).axes[0].get_title()
        assert title == f"{within}, 33% of all pairs do (2 of 2 groups used)"
    vectors = np.random.default_rng(0).normal(size=(12, 5))
    same = Learnt([str(i) for i in range(12)], vectors, 3 * vectors, np.zeros((12, 0)), np.zeros((12, 12)))
    title = learnt.embeddings(same).get_suptitle()
    assert title == "Learning keeps 100% of each label's three nearest labels (27% by chance)"


def test_figures_are_the_same_each_time(tiny_study, subject):
    first, second = (learnt.figures(learnt.learnt(subject), tiny_study.cooccurrence) for _ in range(2))
    assert list(first) == ["embeddings", "similarities", "label-graph"]
    for name in first:
        assert np.array_equal(png(first[name]), png(second[name])), name


def test_labels_of_any_characters_are_drawn_as_they_are_or_written_out():
    labels = ["$", "$$", "a_b^2$c$", "N/A", "caf\u00e9", "\u732b", "\U0001f436", "%"]
    vectors = np.random.default_rng(0).normal(size=(8, 5))
    learned = Learnt(labels, None, vectors, np.eye(8), np.ones((8, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a glyph is missing
        for figure in learnt.figures(learned, (np.ones((8, 8)), np.full(8, 9))).values():
            png(figure)
    texts = [text.get_text() for text in learnt.label_graph(learned).axes[0].texts]
    assert texts[:5] == [r"\$", r"\$\$", r"a_b^2\$c\$", "N/A", "caf\u00e9"]
    assert texts[5] in ("\u732b", "[U+732B]") and texts[6] in ("\U0001f436", "[dog face]")
    names = [safe_file_name(label) for label in [*labels, "N%2FA", "a/b", "a\\b", "x" * 300, "x" * 301]]
    assert len(set(names)) == len(names) and not any(set(name) & set('/\\:*?"<>|') for name in names)
    assert all(len(name.encode()) <= 120 for name in names)


def test_the_finding_states_the_share_of_a_map_in_the_boxes_and_their_share_of_the_image(subject, shown):
    areas, inside = [], []
    for one in shown:
        with Image.open(subject.split.paths[one.row]) as image:
            x, y = (np.arange(112) + 0.5) * image.width / 112, (np.arange(112) + 0.5) * image.height / 112
        mask = np.zeros((112, 112), bool)
        for left, top, right, bottom in one.boxes:
            mask |= ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
        areas.append(mask.mean())
        inside.append(float(one.maps[Key("grad-cam", "all")].numpy()[mask].sum()))
    words = pictures.examples_finding(shown, subject).split()
    assert float(words[words.index("cover") + 1]) == pytest.approx(100 * np.mean(areas), abs=1.5)
    assert float(words[words.index("grad-cam") + 1]) == pytest.approx(100 * np.mean(inside), abs=2)
    bare = subject.split.__class__(subject.split.names, subject.split.paths, subject.split.targets)
    assert "no boxes" in pictures.examples_finding(shown, subject._replace(split=bare))


def test_the_surest_wrong_and_the_least_sure_right_label_are_named(tiny_study, subject):
    (run,) = tiny_study.finished("msrn")
    logits, marks = run.logits["last"][:2], run.targets[:2]
    sentence = pictures.bars_finding(subject, [0, 1])
    for mark, lost, pick, words in ((-1, -np.inf, "argmax", "absent"), (1, np.inf, "argmin", "present")):
        row, label = np.unravel_index(getattr(np.where(marks == mark, logits, lost), pick)(), logits.shape)
        name, number = re.search(rf"{words} labels (.+?) has the \w+ logit \((\S+),", sentence).groups()
        assert name == run.labels[label]
        assert float(number.replace("−", "-")) == pytest.approx(logits[row, label], abs=0.05)


def test_the_findings_on_learnt_vectors_and_groups_follow_from_them(subject):
    learned, nearest = learnt.learnt(subject), []
    for vectors in (learned.before, learned.after):
        unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1)[:, None]
        cosine = unit @ unit.T - 9 * np.eye(22)
        nearest.append(cosine.argmax(1))
    i, j = sorted(np.unravel_index(cosine.argmax(), cosine.shape))
    sentence = learnt.vectors_finding(learned)
    assert f"{subject.labels[i]} and {subject.labels[j]} are most similar (cosine {cosine[i, j]:.2f})" in sentence
    assert f"{(nearest[0] == nearest[1]).sum()} of 22 labels have the same nearest label" in sentence
    firm = sum(max(row) > 0.5 for row in learned.shares)
    assert learnt.groups_finding(learned).startswith(f"{firm} of 22 labels have more than half")


@pytest.mark.parametrize("model", ["gmp", "msrn", "dsdl"])
def test_bars_show_the_highest_scores_and_what_is_present(tiny_study, model):
    figure = pictures.bars(predict.model_on_split(tiny_study, model), [0, 1])
    lengths = [patch.get_width() for patch in figure.axes[2].patches]
    assert lengths == sorted(lengths) and len(lengths) == 8
    run = tiny_study.train(model)[0]
    assert lengths[-1] == pytest.approx(run.logits["last"][0].max(), abs=1e-5)
