"""Attention maps are what their formulas say, lie where they should on the image, and are scored right."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from mlclib import models
from mlclib.attention import evaluation, learnt, saliency
from mlclib.attention import tables as attention_tables
from mlclib.attention.saliency import GRID, Key
from mlclib.common.errors import UserError
from mlclib.datasets.base import Split
from mlclib.inference import predict


@pytest.fixture(scope="module")
def subject(tiny_study):
    return predict.subject(tiny_study, "msrn")


@pytest.fixture(scope="module", params=["elementwise", "mlp"])
def msrn(request):
    """A fresh MSRN of 10 labels and 3 groups, with either head."""
    torch.manual_seed(0)
    counts = np.random.default_rng(0).integers(0, 9, (10, 10)) * (1 - np.eye(10))
    return models.build(
        "msrn",
        labels=10,
        label_vectors=np.random.default_rng(1).normal(size=(10, 6)),
        cooccurrence=(counts, np.full(10, 12)),
        backbone="tf_efficientnet_lite0",
        head=request.param,
        width=8,
        group_ratio=0.3,
    ).eval()


def maps_of(model, size=96, batch=2):
    generator = torch.Generator().manual_seed(2)
    strides = {2: 8, 3: 16, 4: 32}
    return {k: torch.randn(batch, c, size // strides[k], size // strides[k], generator=generator)
            for k, c in model.backbone.channels.items()}  # fmt: skip


def test_every_map_is_a_distribution_over_the_image(subject):
    maps = saliency.explain(subject.model, subject.maps([0, 1, 2]), [0, 5, 3], subject.transform.size)
    maps |= saliency.baselines([0, 1, 2], [0, 5, 3])
    assert {key.method for key in maps} == {"mean", "weighted", "grad-cam", "centre", "random"}
    assert {key.layer for key in maps if key.method == "weighted"} == {"2", "3", "4", "all"}
    for map in maps.values():
        assert map.shape == (3, GRID, GRID) and (map >= 0).all()
        np.testing.assert_allclose(map.sum((1, 2)), 1, rtol=1e-4)


def test_the_mean_map_is_the_mean_of_the_softmax_weights(msrn):
    maps = maps_of(msrn)
    found = saliency.explain(msrn, maps, [4, 7], 96)[Key("mean", "3")].numpy()
    with torch.no_grad():
        p, nodes = msrn.projected(maps)[3].double().numpy(), msrn.nodes()[0].double().numpy()
    for image, label in enumerate((4, 7)):
        energy = p[image] * nodes[label][:, None, None]
        weights = np.exp(energy) / np.exp(energy).sum((1, 2), keepdims=True)
        # 3 x 3 cells of 32 px on 96 px: at its centre an upsampled cell has the cell's own value
        centres = found[image][np.ix_(*[np.round((np.arange(3) + 0.5) * GRID / 3).astype(int)] * 2)]
        np.testing.assert_allclose(centres / centres.sum(), weights.mean(0) / weights.mean(0).sum(), atol=0.01)


@pytest.mark.parametrize("group", [None, 1])
def test_the_weighted_map_uses_how_far_each_pooled_channel_moves_the_logit(msrn, group):
    """Against finite differences: the pooled vector of the node is moved, channel by channel, and scored again."""
    maps, label, width = maps_of(msrn, batch=1), 4, msrn.options.width
    with torch.no_grad():
        labels, groups, assignment = msrn.nodes()
        nodes = torch.cat((labels, groups)).double()
        projected = {k: p.double().flatten(2)[0] for k, p in msrn.projected(maps).items()}  # [D, N]
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
    found = saliency.explain(msrn, maps, [label], 96, group)[Key("weighted", "3")][0].numpy()
    centres = found[np.ix_(*[np.round((np.arange(3) + 0.5) * GRID / 3).astype(int)] * 2)]
    np.testing.assert_allclose(centres / centres.sum(), wanted.view(3, 3).numpy(), atol=0.01)


def test_grad_cam_of_gmp_is_the_class_activation_map(tiny_study):
    """With one linear layer on pooled channels, Grad-CAM's weights are that layer's (Selvaraju et al., 3.1)."""
    subject = predict.subject(tiny_study, "gmp")
    seen = subject.maps([3])
    cams = torch.einsum("lc,chw->lhw", subject.model.head.weight.detach(), seen[4][0].float()).clamp(min=0)
    label = int(cams.sum((1, 2)).argmax())
    cam = cams[label]
    assert cam.shape == (2, 2) and cam.sum() > 0
    found = saliency.explain(subject.model, seen, [label], subject.transform.size)[Key("grad-cam", "4")][0]
    quarters = torch.nn.functional.interpolate(
        cam[None, None], size=(GRID, GRID), mode="bilinear", align_corners=False
    )[0, 0]
    np.testing.assert_allclose(found, quarters / quarters.sum(), atol=1e-7)


def test_a_pooled_map_reaches_only_the_cells_it_was_pooled_from(msrn):
    """At 224 px the 7 x 7 map of layer 4 is pooled to 3 x 3 cells of 64 px: the last 32 px are never looked at."""
    maps = {k: torch.randn(1, c, *[{2: 28, 3: 14, 4: 7}[k]] * 2) for k, c in msrn.backbone.channels.items()}
    found = saliency.explain(msrn, maps, [0], 224)
    edge = GRID * 192 // 224
    assert found[Key("mean", "4")][0, edge:].sum() == 0 and found[Key("mean", "4")][0, :, edge:].sum() == 0
    assert found[Key("mean", "4")][0, :edge, :edge].min() > 0
    assert found[Key("mean", "2")][0].min() > 0


def test_the_curve_area_is_scikit_learns_average_precision_with_ties():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 12, (5, GRID, GRID)).astype(np.float32)
    masks = rng.random((5, GRID, GRID)) < 0.2
    found = evaluation.compare(torch.tensor(maps), torch.tensor(masks))
    wanted = [average_precision_score(mask.ravel(), map.ravel()) for map, mask in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(found["curve"], wanted, rtol=1e-9)


def test_scores_of_maps_that_are_right_wrong_and_silent():
    mask = torch.zeros(3, GRID, GRID, dtype=torch.bool)
    mask[:, :28, :56] = True  # an eighth of the image
    maps = torch.stack([mask[0].float(), (~mask[0]).float(), torch.ones(GRID, GRID)])
    found = evaluation.compare(maps, mask)
    np.testing.assert_allclose(found["pointing"], [1, 0, 1 / 8])
    np.testing.assert_allclose(found["energy"], [1, 0, 1 / 8])
    np.testing.assert_allclose(found["curve"], [1, 1 / 8, 1 / 8])


def test_boxes_become_masks_in_the_images_own_scale(tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    boxes = np.array([[1, 0, 0, 100, 50], [1, 150, 75, 200, 100], [0, 10, 10, 10.4, 10.4]], np.float32)
    split = Split(["a"], [tmp_path / "a.png"], np.ones((1, 2), np.int8), [boxes])
    (_, tiny, tiny_share, tiny_mask), (_, label, share, mask) = saliency.boxed(split, 0)
    assert (tiny, label) == (0, 1)
    assert share == pytest.approx(0.5)  # the larger box takes a quarter of the area
    assert mask[: GRID // 2, : GRID // 2].all() and mask[GRID * 3 // 4 :, GRID * 3 // 4 :].all()
    assert mask.sum() == GRID**2 // 4 + GRID**2 // 16
    assert tiny_mask.sum() == 1 and tiny_share < 0.01


def test_how_specific_a_map_is_hangs_on_no_batch(subject, monkeypatch):
    whole = evaluation.localisation({0: subject}, range(8))
    real = evaluation._whole_images
    monkeypatch.setattr(evaluation, "_whole_images", lambda rows: real(rows, 1))
    single = evaluation.localisation({0: subject}, range(8))
    assert len(real(list(whole["row"]), 1)) > 4
    whole, single = (one.sort_values(["row", "label", "method", "layer"]) for one in (whole, single))
    for column in ("curve", "specific"):
        np.testing.assert_allclose(single[column], whole[column], atol=5e-3)  # ties of maps that say nothing
    several = whole.groupby("row")["label"].transform("nunique") > 1
    assert whole.loc[several, "specific"].notna().all() and whole.loc[~several, "specific"].isna().all()


def test_localisation_has_a_row_for_each_map_of_each_boxed_label(subject, tiny_study):
    scores = evaluation.localisation({0: subject}, range(6))
    things = sum(len(np.unique(subject.split.boxes[row][:, 0])) for row in range(6))
    assert len(scores) == things * (3 * 4 + 2)
    assert (
        scores[list(evaluation.SCORES)].to_numpy().min() >= 0 and scores[list(evaluation.SCORES)].to_numpy().max() <= 1
    )
    again = evaluation.localisation({0: subject, 1: subject}, range(6))
    assert [len(one) for _, one in again.groupby("seed")] == [len(scores)] * 2
    for seed in (0, 1):
        assert again[again["seed"] == seed].assign(seed=0).reset_index(drop=True).equals(scores)
    table = attention_tables.localisation(again, "msrn", "tiny", tiny_study.finished("msrn"))[0]
    assert table.spread["curve"].dropna().eq(0).all()  # the same model twice
    assert table.spread["curve"].isna().sum() == len(saliency.BASELINES)
    assert table.frame["curve"].tolist() == pytest.approx((100 * evaluation.summary(scores)["curve"]).tolist())
    first = scores[(scores["method"] == "weighted") & (scores["layer"] == "2")]
    assert scores["specific"].notna().sum() > len(scores) / 2
    row = evaluation.summary(scores).set_index(["method", "layer"]).loc[("weighted", "2")]
    assert row["curve"] == pytest.approx(first["curve"].mean())


def test_a_map_is_specific_by_what_it_exceeds_the_other_labels_map_in_its_own_boxes(subject):
    row = next(row for row in range(12) if len(np.unique(subject.split.boxes[row][:, 0])) >= 2)
    (_, first, _, mask), (_, second, _, _), *_ = saliency.boxed(subject.split, row)
    scores = evaluation.localisation({0: subject}, [row])
    found = scores[(scores["method"] == "mean") & (scores["label"] == subject.labels[first])].iloc[0]
    map = saliency.explain(subject.model, subject.maps([row]), [second], subject.transform.size)[Key("mean", "2")]
    other = evaluation.compare(map, mask[None])["curve"][0]
    assert found["specific"] == pytest.approx(found["curve"] - other, abs=1e-4)
    centre = scores[scores["method"] == "centre"]
    assert (centre["specific"] == 0).all()


def test_without_boxes_there_are_examples_and_no_scores(subject):
    blind = subject._replace(split=Split(subject.split.names, subject.split.paths, subject.split.targets))
    assert evaluation.localisation({0: blind}, range(3)).empty
    assert attention_tables.localisation(evaluation.localisation({0: blind}, range(3)), "msrn", "tiny", []) == []
    shown = saliency.examples(blind, [0, 1])
    assert all(one.target == 1 and len(one.boxes) == 0 for one in shown)


def test_examples_are_the_smallest_and_the_largest_thing_unless_labels_are_named(subject):
    (small, large), boxes = saliency.examples(subject, [0]), subject.split.boxes[0]
    area = {
        label: ((b := boxes[boxes[:, 0] == label])[:, 3] - b[:, 1]) @ np.diag(b[:, 4] - b[:, 2])
        for label in boxes[:, 0]
    }
    largest = {label: values.max() for label, values in area.items()}
    assert small.label == min(largest, key=largest.get) and large.label == max(largest, key=largest.get)
    wanted = saliency.chosen("dog, car", subject.labels)
    assert [one.label for one in saliency.examples(subject, [0], wanted)] == wanted
    with pytest.raises(UserError, match="unknown label 'dgo'.*did you mean 'dog'"):
        saliency.chosen("dgo", subject.labels)
    with pytest.raises(UserError, match="there is no image 99"):
        saliency.examples(subject, [99])


def test_a_group_that_is_not_there_is_named(subject):
    with pytest.raises(UserError, match="there is no group 7: this model has 4 groups"):
        saliency.explain(subject.model, subject.maps([0]), [0], subject.transform.size, group=7)


def test_deletion_and_insertion_meet_at_the_whole_picture_and_follow_the_map(subject):
    """A model that sees brightness alone: the map of the bright corner is the one that deletion follows."""

    class Brightness(torch.nn.Module):
        def forward(self, images):
            score = images.clamp(min=0).mean((1, 2, 3))
            return attention_output(logits=torch.stack((score, -score), 1) * 40)

    from mlclib.models.base import Output as attention_output

    class Bright:
        def pictures(self, rows):
            picture = torch.zeros(len(rows), 3, 56, 56)
            picture[:, :, :14, :14] = 1
            return picture

        model, transform = Brightness(), subject.transform.__class__(56, (0.5,) * 3, (0.5,) * 3, "bilinear", None)

    corner, other = torch.zeros(GRID, GRID), torch.zeros(GRID, GRID)
    corner[:28, :28] = 1
    other[56:, 56:] = 1
    maps = {Key("grad-cam", "4"): corner, Key("random", ""): other}
    shown = [saliency.Example(0, 0, 1.0, 1, np.empty((0, 4)), maps)]
    curves = evaluation.faithfulness(Bright(), shown)
    ends = curves[curves["share"] == 1].set_index(["method", "curve"])["probability"]
    starts = curves[curves["share"] == 0].set_index(["method", "curve"])["probability"]
    assert starts["grad-cam", "deletion"] == pytest.approx(ends["random", "insertion"])
    assert ends["grad-cam", "deletion"] == pytest.approx(0.5)
    areas = evaluation.curve_areas(curves).set_index("method")
    assert areas.loc["grad-cam", "deletion"] < areas.loc["random", "deletion"] - 0.1
    rows = curves[(curves["method"] == "random") & (curves["curve"] == "deletion")]
    assert areas.loc["random", "deletion"] == pytest.approx(np.trapezoid(rows["probability"], rows["share"]))


def test_nearest_labels_and_groups_of_the_learnt_vectors(subject, tiny_study):
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0.2]])
    assert learnt.nearest(vectors, ["a", "b", "c", "d"], 1) == ["b (0.99)", "a (0.99)", "d (0.20)", "c (0.20)"]
    (run,) = tiny_study.finished("msrn")
    tables = {table.name: table.frame for table in attention_tables.learnt(subject, "msrn", run)}
    assert list(tables["labels-msrn"]) == ["label", "nearest before", "nearest as learnt"]
    members = ", ".join(tables["labels-msrn-groups"]["members"])
    assert all(members.count(f"{label} (") == 1 for label in subject.labels)


def test_models_without_groups_or_label_vectors_say_so(tiny_study):
    gmp = predict.subject(tiny_study, "gmp")
    assert learnt.embeddings(gmp.model)[0] is None
    assert [table.name for table in attention_tables.learnt(gmp, "gmp", tiny_study.finished("gmp")[0])] == [
        "labels-gmp"
    ]
    assert learnt.assignment(gmp.model).shape == (len(gmp.labels), 0)
