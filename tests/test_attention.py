"""Attention maps are what their formulas say, lie where they should on the image, and are scored right."""

import made_models
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from mlclib import transforms
from mlclib.attention import faithfulness, learnt, localisation, maps
from mlclib.attention.maps import GRID, Key
from mlclib.common.errors import UserError
from mlclib.datasets.base import Split
from mlclib.inference import predict
from mlclib.models.base import Output


@pytest.fixture(scope="module")
def subject(tiny_study):
    return predict.model_on_split(tiny_study, "msrn")


@pytest.fixture(scope="module", params=["elementwise", "mlp"])
def msrn(request):
    """A fresh MSRN of 10 labels and 3 groups, with either head."""
    return made_models.build("msrn", head=request.param, width=8, group_ratio=0.3).eval()


def cells(map):
    """The values of a map of 3 x 3 cells, of sum 1: at its centre an upsampled cell has the cell's own value."""
    at = np.round((np.arange(3) + 0.5) * GRID / 3).astype(int)
    return map[np.ix_(at, at)] / map[np.ix_(at, at)].sum()


def test_every_map_is_a_distribution_and_labels_explained_together_have_the_maps_that_each_has_alone(subject):
    seen, labels = subject.layer_maps([0, 1]), [[0, 4, 7], [5, 1, 2]]
    together = maps.explain(subject.model, seen, labels, subject.transform.size)
    assert {key.layer for key in together if key.method == "weighted"} == {"2", "3", "4", "all"}
    every = together | maps.baselines([0, 1], labels)
    assert {key.method for key in every} == {"mean", "weighted", "grad-cam", "centre", "random"}
    for map in every.values():
        assert map.shape == (2, 3, GRID, GRID) and (map >= 0).all()
        np.testing.assert_allclose(map.sum((2, 3)), 1, rtol=1e-4)
    for at, label in enumerate(labels[1]):
        alone = maps.explain(subject.model, {k: map[1:] for k, map in seen.items()}, [[label]], subject.transform.size)
        for key, map in alone.items():
            np.testing.assert_allclose(together[key][1, at], map[0, 0], atol=1e-6, err_msg=str(key))


def test_the_mean_map_is_the_mean_of_the_softmax_weights(msrn):
    seen = made_models.some_maps(2, 96)
    heatmaps = maps.explain(msrn, seen, [[4], [7]], 96)[Key("mean", "3")].numpy()
    with torch.no_grad():
        p, nodes = msrn.projected(seen)[3].double().numpy(), msrn.nodes()[0].double().numpy()
    for image, label in enumerate((4, 7)):
        energy = np.exp(p[image] * nodes[label][:, None, None])
        weights = (energy / energy.sum((1, 2), keepdims=True)).mean(0)
        np.testing.assert_allclose(cells(heatmaps[image, 0]), weights / weights.sum(), atol=0.01)


@pytest.mark.parametrize("group", [None, 1])
def test_the_weighted_map_uses_how_far_each_pooled_channel_moves_the_logit(msrn, group):
    """Against finite differences: the pooled vector of the node is moved, channel by channel, and scored again."""
    seen, label, width = made_models.some_maps(1, 96), 4, msrn.options.width
    with torch.no_grad():
        labels, groups, assignment = msrn.nodes()
        nodes = torch.cat((labels, groups)).double()
        projected = {k: p.double().flatten(2)[0] for k, p in msrn.projected(seen).items()}  # [D, N]
        weights = {k: torch.softmax(p * nodes[..., None], 2) for k, p in projected.items()}  # [C + G, D, N]
        pooled = torch.cat([(w * projected[k]).sum(2) for k, w in weights.items()], 1)  # [C + G, 3 D]

        def logit(pooled):
            vectors = pooled
            if msrn.options.head == "elementwise":
                vectors = torch.cat((pooled[:10], assignment.double() @ pooled[10:]), 1)
            return float(msrn.head.double()(vectors.tanh()[None])[0, label])

        node, step = label if group is None else 10 + group, 1e-5
        slopes = []
        for channel in range(3 * width):
            moved = pooled.clone()
            moved[node, channel] += step
            slopes.append(abs(logit(moved) - logit(pooled)) / step)
        msrn.head.float()
    slopes = torch.tensor(slopes).view(3, width)[1]  # layer 3
    wanted = (weights[3][node] * slopes[:, None]).sum(0) / slopes.sum()
    heatmap = maps.explain(msrn, seen, [[label]], 96, group)[Key("weighted", "3")][0, 0].numpy()
    np.testing.assert_allclose(cells(heatmap), wanted.view(3, 3).numpy(), atol=0.01)


def test_grad_cam_of_gmp_is_the_class_activation_map(tiny_study):
    """With one linear layer on pooled channels, Grad-CAM's weights are that layer's (Selvaraju et al., 3.1)."""
    subject = predict.model_on_split(tiny_study, "gmp")
    seen = subject.layer_maps([3])
    cams = torch.einsum("lc,chw->lhw", subject.model.head.weight.detach(), seen[4][0].float()).clamp(min=0)
    label = int(cams.sum((1, 2)).argmax())
    assert cams[label].shape == (2, 2) and cams[label].sum() > 0
    heatmap = maps.explain(subject.model, seen, [[label]], subject.transform.size)[Key("grad-cam", "4")][0, 0]
    large = torch.nn.functional.interpolate(cams[None, label : label + 1], size=(GRID, GRID), mode="bilinear")[0, 0]
    np.testing.assert_allclose(heatmap, large / large.sum(), atol=1e-7)


def test_a_pooled_map_reaches_only_the_cells_it_was_pooled_from(msrn):
    """At 224 px the 7 x 7 map of layer 4 is pooled to 3 x 3 cells of 64 px: the last 32 px are never looked at."""
    heatmaps, edge = maps.explain(msrn, made_models.some_maps(1, 224), [[0]], 224), GRID * 192 // 224
    coarse, fine = heatmaps[Key("mean", "4")][0, 0], heatmaps[Key("mean", "2")][0, 0]
    assert coarse[edge:].sum() == 0 and coarse[:, edge:].sum() == 0 and coarse[:edge, :edge].min() > 0
    assert fine.min() > 0


def test_the_curve_area_is_scikit_learns_average_precision_with_ties():
    rng = np.random.default_rng(0)
    ties, masks = rng.integers(0, 12, (5, 2, GRID, GRID)).astype(np.float32), rng.random((5, 2, GRID, GRID)) < 0.2
    scores = localisation.compare(torch.tensor(ties), torch.tensor(masks))
    precision = lambda mask, map: average_precision_score(mask.ravel(), map.ravel())  # noqa: E731
    for image, label in np.ndindex(5, 2):
        own = precision(masks[image, label], ties[image, label])
        assert scores["curve"][image, label] == pytest.approx(own, rel=1e-9)
        other = precision(masks[image, label], ties[image, 1 - label])
        assert scores["specific"][image, label] == pytest.approx(own - other, rel=1e-9)


def test_scores_of_maps_that_are_right_wrong_and_silent():
    mask = torch.zeros(3, 1, GRID, GRID, dtype=torch.bool)
    mask[:, :, :28, :56] = True  # an eighth of the image
    scores = localisation.compare(torch.stack([mask[0].float(), (~mask[0]).float(), torch.ones(1, GRID, GRID)]), mask)
    for score, values in {"pointing": [1, 0, 1 / 8], "energy": [1, 0, 1 / 8], "curve": [1, 1 / 8, 1 / 8]}.items():
        np.testing.assert_allclose(scores[score][:, 0], values)
    assert np.isnan(scores["specific"]).all()  # the images show one label alone


def test_boxes_become_masks_in_the_images_own_scale(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    boxes = np.array([[1, 0, 0, 100, 50], [1, 150, 75, 200, 100], [0, 10, 10, 10.4, 10.4]], np.float32)
    split = Split(["a"], [tmp_path / "a.png"], np.ones((1, 2), np.int8), [boxes])
    (tiny, tiny_share, tiny_mask), (label, share, mask) = maps.boxed_labels(split, 0)
    assert (tiny, label) == (0, 1)
    assert share == pytest.approx(0.5)  # the larger box takes a quarter of the area
    assert mask[: GRID // 2, : GRID // 2].all() and mask[GRID * 3 // 4 :, GRID * 3 // 4 :].all()
    assert mask.sum() == GRID**2 // 4 + GRID**2 // 16
    assert tiny_mask.sum() == 1 and tiny_share < 0.01


def test_localisation_has_a_row_for_each_map_of_each_boxed_label(subject, tiny_study):
    scores = localisation.localisation({0: subject}, range(6))
    things = [len(np.unique(subject.split.boxes[row][:, 0])) for row in range(6)]
    assert len(scores) == sum(things) * (3 * 4 + 2)
    values = scores[list(localisation.SCORES)].to_numpy()
    assert values.min() >= 0 and values.max() <= 1
    alone = scores["row"].map(lambda row: things[row] == 1)
    assert scores.loc[alone, "specific"].isna().all() and scores.loc[~alone, "specific"].notna().all()
    assert (scores.loc[~alone & (scores["method"] == "centre"), "specific"] == 0).all()  # it knows no label
    again = localisation.localisation({0: subject, 1: subject}, range(6))
    for seed in (0, 1):
        assert again[again["seed"] == seed].assign(seed=0).reset_index(drop=True).equals(scores)
    table = localisation.tables(again, "msrn", "tiny", tiny_study.finished("msrn"))[0]
    assert table.spread["curve"].dropna().eq(0).all()  # the same model twice
    assert table.spread["curve"].isna().sum() == len(maps.BASELINES)
    means = scores.groupby(["method", "layer"], sort=False)["curve"].mean()
    assert table.frame["curve"].tolist() == pytest.approx((100 * means).tolist())


def test_without_boxes_there_are_examples_and_no_scores(subject):
    blind = subject._replace(split=Split(subject.split.names, subject.split.paths, subject.split.targets))
    scores = localisation.localisation({0: blind}, range(3))
    assert scores.empty and localisation.tables(scores, "msrn", "tiny", []) == []
    assert all(one.target == 1 and len(one.boxes) == 0 for one in maps.examples(blind, [0, 1]))


def test_examples_are_the_smallest_and_the_largest_thing_or_the_labels_asked_for(subject):
    (small, large), boxes = maps.examples(subject, [0]), subject.split.boxes[0]
    largest = {}
    for label, left, top, right, bottom in boxes:
        largest[label] = max(largest.get(label, 0), (right - left) * (bottom - top))
    assert small.label == min(largest, key=largest.get) and large.label == max(largest, key=largest.get)
    wanted = maps.label_columns("dog, car", subject.labels)
    assert [one.label for one in maps.examples(subject, [0], wanted)] == wanted
    with pytest.raises(UserError, match="unknown label 'dgo'.*did you mean 'dog'"):
        maps.label_columns("dgo", subject.labels)
    with pytest.raises(UserError, match="there is no image 99"):
        maps.examples(subject, [99])
    with pytest.raises(UserError, match="there is no group 7: this model has 4 groups"):
        maps.explain(subject.model, subject.layer_maps([0]), [[0]], subject.transform.size, group=7)


class Brightness(torch.nn.Module):
    """A model of two labels that sees brightness alone."""

    def forward(self, images):
        score = images.clamp(min=0).mean((1, 2, 3))
        return Output(logits=torch.stack((score, -score), 1) * 40)


def test_deletion_and_insertion_meet_at_the_whole_picture_and_follow_the_map(subject):
    """The picture is bright in one corner: deletion follows the map of that corner."""

    class Bright:
        model, transform = Brightness(), transforms.Transform(56, (0.0,) * 3, (1.0,) * 3)

        def picture(self, row):
            picture = Image.new("RGB", (56, 56))
            picture.paste("white", (0, 0, 14, 14))
            return picture

    corner, other = torch.zeros(GRID, GRID), torch.zeros(GRID, GRID)
    corner[:28, :28], other[56:, 56:] = 1, 1
    shown = [
        maps.Example(0, label, 1.0, 1, np.empty((0, 4)), {Key("grad-cam", "4"): corner, Key("random", ""): other})
        for label in (0, 1)
    ]
    curves = faithfulness.faithfulness(Bright(), shown)
    at = curves.set_index(["example", "method", "curve", "share"])["probability"].sort_index()
    assert at[0, "grad-cam", "deletion", 0] == pytest.approx(at[0, "random", "insertion", 1])
    assert at[0, "grad-cam", "deletion", 1] == pytest.approx(0.5)
    np.testing.assert_allclose(at[0], 1 - at[1], atol=1e-6)  # the two labels of the image, looked at together
    areas = faithfulness.curve_areas(curves).set_index(["example", "method"])["deletion"]
    assert areas[0, "grad-cam"] < areas[0, "random"] - 0.1
    line = at[0, "random", "deletion"]
    assert areas[0, "random"] == pytest.approx(np.trapezoid(line, line.index))


def test_deletion_fills_a_hole_from_around_it_so_that_a_ramp_stays_a_ramp():
    """Each value of a ramp is the mean of those around it. What is filled has noise too, what stays has none."""
    seen = []

    class Ramp:
        transform = transforms.Transform(112, (0.0,) * 3, (1.0,) * 3)

        @staticmethod
        def model(images):
            seen.append(images)
            return Output(logits=torch.zeros(len(images), 1))

        def picture(self, row):
            across, down = np.meshgrid(np.arange(112), np.arange(112))
            return Image.fromarray(np.stack([across, down, across + down], 2).astype(np.uint8))

    corner = torch.zeros(GRID, GRID)
    corner[GRID // 7 : 3 * GRID // 7, GRID // 7 : 3 * GRID // 7] = 1  # 16 of the 196 blocks
    faithfulness.faithfulness(Ramp(), [maps.Example(0, 0, 1.0, 1, np.empty((0, 4)), {Key("random", ""): corner})], 12)
    whole, part = seen[0][0], next(batch[1] for batch in seen if (batch[1] != batch[0]).any())
    hidden = (part != whole).any(0)
    assert hidden[16:48, 16:48].all() and hidden.sum() == 32 * 32
    off = (part - whole)[:, hidden]
    assert abs(off.mean()) < 0.001 and 0.008 < off.std() < 0.012


def test_the_tables_hold_nearest_labels_and_groups_of_models_that_have_them(subject, tiny_study):
    order, values = learnt.nearest(np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0.2]]), 1)
    assert order[:, 0].tolist() == [1, 0, 3, 2] and values[:, 0] == pytest.approx([0.99, 0.99, 0.2, 0.2], abs=5e-3)
    (run,) = tiny_study.finished("msrn")
    nearest, groups = learnt.tables(learnt.learnt(subject), "msrn", run)
    assert list(nearest.frame) == ["label", "nearest before", "nearest as learnt"]
    members = ", ".join(groups.frame["members"])
    assert all(members.count(f"{label} (") == 1 for label in subject.labels)
    gmp = learnt.learnt(predict.model_on_split(tiny_study, "gmp"))
    assert gmp.before is None and gmp.group is None and len(learnt.tables(gmp, "gmp", run)) == 1
    assert "starts from no label vectors" in learnt.vectors_finding(gmp)
    assert "no groups" in learnt.groups_finding(gmp)
