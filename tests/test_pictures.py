"""Figures show what they were given, and their titles state what the numbers say."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mlclib.attention import evaluation, learnt, learnt_figures, saliency
from mlclib.attention import figures as pictures
from mlclib.attention import tables as attention_tables
from mlclib.attention.saliency import Key
from mlclib.inference import predict


@pytest.fixture(scope="module")
def subject(tiny_study):
    return predict.subject(tiny_study, "msrn")


@pytest.fixture(scope="module")
def shown(subject):
    return saliency.examples(subject, [0, 1])


def png(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return np.asarray(Image.open(file).convert("RGB"))


def scores(best: dict[str, str]) -> pd.DataFrame:
    """Localisation scores in which layer best[size] finds things of that size."""
    rows = [
        (row, size, method, layer, *[0.9 if best[size] == layer and method == "weighted" else 0.2] * 3, 0.1)
        for row in range(4)
        for size in best
        for method, layer in [("weighted", "2"), ("weighted", "4"), ("weighted", "all"), ("centre", ""), ("random", "")]
    ]
    frame = pd.DataFrame(rows, columns=["row", "size", "method", "layer", *evaluation.SCORES, "specific"])
    return frame.assign(size=pd.Categorical(frame["size"], list(evaluation.SIZES)))


def test_a_grid_has_a_row_an_example_and_a_panel_a_map(shown, subject):
    figure = pictures.examples(shown, subject.split, subject.labels)
    assert len(figure.axes) == len(shown) * 5  # the image, layers 2, 3, 4 and Grad-CAM
    assert figure.axes[0].get_title().startswith(f"{subject.labels[shown[0].label]}: {shown[0].probability:.2f}")
    assert [axes.get_title() for axes in figure.axes[1:5]] == [
        "weighted, layer 2", "weighted, layer 3", "weighted, layer 4", "grad-cam, all layers",
    ]  # fmt: skip
    assert len(figure.axes[0].patches) == 2 * len(shown[0].boxes)
    right = sum((one.probability >= 0.5) == (one.target == 1) for one in shown)
    assert figure.get_suptitle().startswith(f"{right} of {len(shown)} labels recognised")


def test_a_map_is_bright_where_it_is_high():
    import torch

    map = torch.zeros(112, 112)
    map[:56] = 1
    figure = pictures.grid([Image.new("RGB", (64, 64))], ["x"], [{Key("grad-cam", "4"): map}])
    box = figure.axes[1].get_window_extent()
    drawn = png(figure)
    scale = 60 / figure.dpi
    x, height = int(scale * (box.x0 + box.x1) / 2), drawn.shape[0]
    top, bottom = drawn[height - int(scale * (box.y1 - 20)), x], drawn[height - int(scale * (box.y0 + 20)), x]
    assert top.astype(int).sum() > bottom.astype(int).sum() + 100


@pytest.mark.parametrize(
    ("best", "small"),
    [
        ({"small": "2", "large": "4"}, "small things best in layer 2 (0.90, centre 0.20)"),
        ({"small": "none", "large": "4"}, "small things in no layer better than the centre map (0.20, centre 0.20)"),
    ],
)
def test_the_localisation_title_states_the_finding(best, small):
    first, _, own = pictures.localisation(scores(best)).get_suptitle().splitlines()
    assert first == f"Weighted maps find {small}, large things best in layer 4 (0.90, centre 0.20)"
    assert own == "weighted +0.10 [+0.10, +0.10]"


def test_intervals_hold_the_mean_and_come_from_images_not_labels():
    frame = pd.DataFrame({"row": [0] * 50 + [1], "curve": [1.0] * 50 + [0.0]})
    mean, low, high = pictures._interval(frame, "curve")
    assert mean == pytest.approx(50 / 51) and low == 0 and high == 1  # two images: all or nothing


def test_without_boxes_the_figure_says_so():
    figure = pictures.localisation(pd.DataFrame(columns=["row", "size", "method", "layer", *evaluation.SCORES]))
    assert "No boxes are known" in figure.axes[0].texts[0].get_text()


def test_faithfulness_says_how_far_the_best_map_is_from_the_random_one(subject, shown):
    frame = evaluation.faithfulness(subject, shown, steps=2)
    areas = evaluation.curve_areas(frame).set_index(["method", "layer"])
    deletion, insertion = pictures.curves(frame).get_suptitle().splitlines()
    for curve, line, best in (("deletion", deletion, "idxmin"), ("insertion", insertion, "idxmax")):
        means = areas.groupby(level=[0, 1], sort=False)[curve].mean()
        key = getattr(means.drop(index=["centre", "random"], level=0), best)()
        gain = means[key] - means["random", ""]
        assert line.startswith(f"{curve.capitalize()}: {Key(*key)} is {gain:+.2f} [")


def test_groups_have_a_map_each_and_models_without_groups_no_figure(tiny_study, subject):
    figure = pictures.groups(subject, [0, 1])
    count = learnt.assignment(subject.model).shape[1]
    assert len(figure.axes) == 2 * (1 + count)
    titles = [axes.get_title().splitlines() for axes in figure.axes[1 : 1 + count]]
    assert [title[0] for title in titles] == [f"group {number}" for number in range(count)]
    assert pictures.groups(predict.subject(tiny_study, "gmp"), [0, 1]) is None


def test_the_graph_counts_edges_within_groups():
    adjacency = np.array([[1, 0, 0, 0], [0.2, 1, 0, 0], [0, 0, 1, 0.2], [0, 0, 0.2, 1]])
    assignment = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], float)
    title = learnt_figures.grouped_graph(adjacency, assignment, list("abcd")).axes[0].get_title()
    assert title == "100% of edges join labels of one group, 33% of all pairs do (2 of 2 groups used)"
    none = learnt_figures.grouped_graph(np.eye(4), assignment, list("abcd")).axes[0].get_title()
    assert none == "The graph has no edges, 33% of all pairs do (2 of 2 groups used)"


def test_learning_that_changes_nothing_keeps_every_neighbour():
    vectors = np.random.default_rng(0).normal(size=(12, 5))
    title = learnt_figures.embeddings(vectors, 3 * vectors, [str(i) for i in range(12)]).get_suptitle()
    assert title == "Learning keeps 100% of each label's three nearest labels (27% by chance)"


def test_figures_are_the_same_each_time(tiny_study, subject):
    first, second = (learnt_figures.knowledge(subject, tiny_study.cooccurrence) for _ in range(2))
    assert list(first) == ["embeddings", "similarities", "label-graph"]
    for name in first:
        assert np.array_equal(png(first[name]), png(second[name])), name


def test_the_share_of_a_map_in_the_boxes_is_told_beside_the_share_of_the_boxes(subject, shown):
    said = pictures.examples_finding(shown, subject.split)
    areas, inside = [], []
    for one in shown:
        with Image.open(subject.split.paths[one.row]) as image:
            x, y = (np.arange(112) + 0.5) * image.width / 112, (np.arange(112) + 0.5) * image.height / 112
        mask = np.zeros((112, 112), bool)
        for left, top, right, bottom in one.boxes:
            mask |= ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
        areas.append(mask.mean())
        inside.append(float(one.maps[Key("grad-cam", "all")].numpy()[mask].sum()))
    words = said.split()
    told = float(words[words.index("take") + 1])
    assert told == pytest.approx(100 * np.mean(areas), abs=1.5)
    told = float(words[words.index("grad-cam") + 1])
    assert told == pytest.approx(100 * np.mean(inside), abs=2)
    bare = subject.split.__class__(subject.split.names, subject.split.paths, subject.split.targets)
    assert "No boxes" in pictures.examples_finding(shown, bare)


def test_the_surest_wrong_and_the_least_sure_right_label_are_told(tiny_study, subject):
    (run,) = tiny_study.finished("msrn")
    logits, marks = run.logits["last"][:2], run.targets[:2]
    said = pictures.bars_finding(subject, [0, 1])
    for mark, lost, pick, words in ((-1, -np.inf, "argmax", "likeliest is"), (1, np.inf, "argmin", "least likely is")):
        row, label = np.unravel_index(getattr(np.where(marks == mark, logits, lost), pick)(), logits.shape)
        name, number = re.search(rf"{words} (.+?) \(logit (\S+),", said).groups()
        assert name == run.labels[label]
        assert float(number.replace("−", "-")) == pytest.approx(logits[row, label], abs=0.05)


def test_the_first_step_of_deletion_is_told_beside_the_random_one(subject, shown):
    frame = evaluation.faithfulness(subject, shown, steps=2)
    said = pictures.curves_finding(frame)
    half = frame[(frame["curve"] == "deletion") & (frame["share"] == 0.5)]
    random = half[half["method"] == "random"]["probability"].mean()
    assert "With 50 % of the picture hidden" in said and f"in random order to {random:.2f}" in said
    start = frame[(frame["curve"] == "deletion") & (frame["share"] == 0) & (frame["method"] == "mean")]
    assert f"falls from {start.groupby('layer')['probability'].mean().iloc[0]:.2f} to" in said


def test_what_is_learnt_is_told_from_the_vectors(tiny_study, subject):
    before, after = learnt.embeddings(subject.model)
    pairs, nearest = {}, []
    for vectors in (after, before):
        cosine = [[np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for b in vectors] for a in vectors]
        others = [[-9 if i == j else c for j, c in enumerate(row)] for i, row in enumerate(cosine)]
        nearest.append([int(np.argmax(row)) for row in others])
        pairs |= {} if pairs else {(i, j): cosine[i][j] for i in range(22) for j in range(i + 1, 22)}
    i, j = max(pairs, key=pairs.get)
    said = learnt_figures.knowledge_finding(subject)
    assert f"{subject.labels[i]} and {subject.labels[j]} (cosine {pairs[i, j]:.2f})" in said
    kept = sum(a == b for a, b in zip(*nearest, strict=True))
    assert f"{kept} of 22 labels keep" in said
    gmp = predict.subject(tiny_study, "gmp")
    assert "starts from no label vectors" in learnt_figures.knowledge_finding(gmp)
    assert attention_tables.groups_finding(gmp) == "This model makes no groups of labels."
    shares = learnt.assignment(subject.model)
    firm = sum(max(row) > 0.5 for row in shares)
    assert attention_tables.groups_finding(subject).startswith(f"{firm} of 22 labels belong to one group")


@pytest.mark.parametrize("model", ["gmp", "msrn", "dsdl"])
def test_bars_show_the_highest_scores_and_what_is_present(tiny_study, model):
    figure = pictures.bars(predict.subject(tiny_study, model), [0, 1])
    lengths = [patch.get_width() for patch in figure.axes[2].patches]
    assert lengths == sorted(lengths) and len(lengths) == 8
    run = tiny_study.train(tiny_study.experiment.run(model))[0]
    assert lengths[-1] == pytest.approx(run.logits["last"][0].max(), abs=1e-5)
