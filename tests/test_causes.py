"""Scenes drawn again differ where they must, and what is measured on them is what was planted."""

import copy
import dataclasses
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mlclib.attention import causal_maps, causes, redrawn
from mlclib.attention.imputation import impute
from mlclib.attention.maps import BASELINES, GRID, boxed_labels
from mlclib.common.errors import UserError
from mlclib.config.schema import Causes
from mlclib.datasets import scenes
from mlclib.datasets.base import Dataset, Split
from mlclib.datasets.scenes import picture
from mlclib.datasets.scenes.picture import Placed
from mlclib.inference import predict
from mlclib.results import causes as shown
from mlclib.results import findings, report
from mlclib.runs import plan


@pytest.fixture(scope="module")
def panel(tiny_study):
    models = ("gmp", "msrn")
    return causes.Panel(tiny_study, {model: predict.models_on_split(tiny_study, model) for model in models})


@pytest.fixture(scope="module")
def pairs(panel):
    return causes.pairs(panel, 6)


def test_a_scene_without_a_thing_is_equal_in_every_pixel_that_thing_and_shadow_do_not_cover():
    placed = [Placed(0.8, 0.25, "ball", "ground", 0.2, 0.5), Placed(0.9, 0.75, "car", "ground", 0.3, 0.5)]
    (whole, about), (without, left) = picture.draw_versions(0, 1, 3, ["", "ball"], placed)
    changed = (np.asarray(whole) != np.asarray(without)).any(2)
    x0, y0, x1, y1 = (int(side) for side in about["boxes"][0]["box"])
    assert changed[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8].mean() > 0.9
    outside = np.ones_like(changed)
    outside[y0 - 2 : y1 + 8, x0 - 2 : x1 + 2] = False  # the shadow reaches a little below
    assert not changed[outside].any()
    assert [box["label"] for box in about["boxes"]] == ["ball", "car"] and left["boxes"] == about["boxes"][1:]
    same, _ = picture.draw_versions(0, 1, 3, placed=placed)[0]
    assert same.tobytes() == whole.tobytes()


@pytest.mark.parametrize("together", [True, False])
def test_misplaced_scenes_hold_the_same_things_in_other_places(monkeypatch, together):
    places, own = zip(*(picture._arrangement(0, 1, index) for index in range(24)), strict=True)
    names = [Counter(thing.name for thing in things) for things in own]
    dealt = []
    monkeypatch.setattr(picture, "draw_versions", lambda *_, placed: [dealt.append(placed)])
    scenes.misplaced(0, 1, 24, together)
    now = [Counter(thing.name for thing in things) for things in dealt]
    assert sum(now, Counter()) == sum(names, Counter())
    assert sum(map(Counter, map(set, now)), Counter()) == sum(map(Counter, map(set, names)), Counter())
    if together:
        assert sorted(map(repr, dealt)) == sorted(map(repr, own))
        before = {repr(things): place for things, place in zip(own, places, strict=True)}
        assert sum(before[repr(things)] == place for things, place in zip(dealt, places, strict=True)) <= 2
    else:
        assert list(map(len, now)) == list(map(len, names))
        assert sum(one == other for one, other in zip(now, names, strict=True)) <= 2


def test_pairs_lack_one_shown_label_each_and_change_where_its_boxes_are(panel, pairs):
    split = panel.subjects["gmp"][0].split
    assert (pairs.targets == split.targets[:6]).all()
    assert sorted(zip(pairs.rows, pairs.labels, strict=True)) == [tuple(one) for one in np.argwhere(pairs.targets == 1)]
    for row, label, region in zip(pairs.rows, pairs.labels, pairs.regions, strict=True):
        (mask,) = (one.mask for one in boxed_labels(split, row) if one.label == label)
        assert region[mask].mean() > 4 * region[~mask].mean()
    assert not pairs.untouched[np.arange(len(pairs.rows)), pairs.labels].any()
    assert pairs.falls("msrn").shape == (1, len(pairs.rows), 22)


def test_a_shared_backbone_gives_the_logits_that_each_model_gives_alone(panel, pairs):
    for model, seeds in panel.subjects.items():
        subject = seeds[0]
        images = torch.stack([subject.transform(scenes.draw_scene(0, 1, row)[0]) for row in range(6)])
        with torch.no_grad():
            alone = subject.model.classify(causes.transparent("tf_efficientnet_lite0", "offline", (2, 3, 4))(images))
        np.testing.assert_allclose(pairs.whole[model][0], alone.logits, atol=2e-3)


def planted(panel, lent: np.ndarray, images: int = 60) -> causes.Pairs:
    """Pairs of which the logit of b falls by lent[a, b] where a goes."""
    count = len(lent)
    rows, labels = (part.ravel() for part in np.indices((images, count)))
    whole = np.full((2, images, count), 0.5)
    without = whole[:, rows] - lent[labels]
    untouched = labels[:, None] != np.arange(count)
    arrays = rows, labels, torch.zeros(len(rows), 1, 1), untouched, np.ones((images, count), np.int8)
    return causes.Pairs(*arrays, {"gmp": whole}, {"gmp": without})


def test_effects_are_those_planted_and_follow_the_reference_they_were_drawn_from(panel):
    one = SimpleNamespace(study=panel.study, labels=panel.labels, graph=lambda _: None)
    one.subjects = {"gmp": {seed: panel.subjects["gmp"][0] for seed in (0, 1)}}
    odds = causes.odds_ratios(panel.study)
    lent = 0.1 * odds / abs(odds).max()
    np.fill_diagonal(lent, np.where(np.arange(len(lent)) < 11, 1.0, 0.25))
    frame, matrices = causes.effects(one, planted(one, lent))
    off, fall = ~np.eye(22, dtype=bool), frame["fall"][0]
    np.testing.assert_allclose(matrices["gmp"][off], 100 * lent[off] / fall, atol=1e-10)
    (row,) = frame.to_dict("records")
    moved = abs(lent[~np.eye(22, dtype=bool)]).mean()
    assert row["fall"] == pytest.approx(0.625) and row["lost, %"] == pytest.approx(50)
    assert row["others, %"] == pytest.approx(100 * moved / 0.625)
    assert row["with co-occurrence"] == pytest.approx(1) and np.isnan(row["with own graph"])
    assert row["with learnt vectors low"] <= row["with learnt vectors"] <= row["with learnt vectors high"]


def test_what_sees_nothing_of_place_and_company_loses_nothing(panel, pairs, monkeypatch):
    shown = [[panel.labels[label] for label in np.flatnonzero(row == 1)] for row in pairs.targets]
    drawn = [(None, {"boxes": [{"label": label, "difficult": False} for label in labels]}) for labels in shown]
    monkeypatch.setattr(causes.scenes, "misplaced", lambda *_: drawn)
    sure, names = 4.0 * pairs.targets[None], ("gmp", "msrn", "without edges")
    one = SimpleNamespace(study=panel.study, labels=panel.labels)
    one.subjects = panel.subjects | {"without edges": panel.subjects["msrn"]}
    one.graph = {"msrn": np.eye(2)}.get
    perfect = pairs._replace(whole=dict.fromkeys(names, sure))
    for right in (True, False):
        one.logits = lambda _, right=right: dict.fromkeys(names, sure) | {"msrn": sure if right else -sure}
        frame, graphs = causes.context(one, perfect)
        lost = frame.set_index("model")["Δ wrong company"]
        assert frame["mAP"].tolist() == [100] * 3 and lost["gmp"] == 0 and (lost["msrn"] == 0) == right
        (pair,) = graphs.to_dict("records")  # the model of another class is not compared
        assert (pair["model"], pair["without"]) == ("msrn", "without edges")
        assert pair["Δ wrong company"] == pytest.approx(lost["msrn"])


def photographs(folder, picture: Image.Image, boxes: list[list[float]]) -> SimpleNamespace:
    """A study of one photograph that shows a cat and a dog, with these boxes."""
    picture.save(folder / "one.png")
    split = Split(["one"], [folder / "one.png"], np.array([[1, 1]], np.int8), [np.array(boxes, np.float32)])
    return SimpleNamespace(dataset=Dataset("voc2007", ("cat", "dog"), {"test": split}))


def test_a_photograph_without_a_thing_is_filled_from_around_it_and_equal_elsewhere(tmp_path):
    across = np.linspace(0, 255, 200).round().astype(np.uint8)
    pixels = np.repeat(np.tile(across, (150, 1))[..., None], 3, 2)
    ramp = pixels.copy()
    pixels[40:90, 60:120] = 255, 0, 0
    study = photographs(tmp_path, Image.fromarray(pixels), [[0, 60, 40, 120, 90], [1, 100, 80, 130, 100]])
    (whole, boxes), (without, left) = redrawn.versions(study, 0, ["cat"])
    inside = np.zeros((150, 200), dtype=bool)
    inside[40:90, 60:120] = True
    assert np.array_equal(np.asarray(without)[~inside], np.asarray(whole)[~inside])
    assert abs(np.asarray(without).astype(int) - ramp)[inside].mean() < 12 and boxes["cat"] == [[60, 40, 120, 90]]
    assert left == {}  # the dog's box was filled in part


@pytest.mark.parametrize("place", [(20, 30), (0, 0), (0, 25), (55, 55)])
def test_what_is_missing_is_the_mean_of_its_neighbours_direct_ones_twice_as_heavy(place):
    picture, hole = 100 * torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(0)), torch.zeros(56, 56) > 0
    hole[place] = True
    far = (
        torch.stack(torch.meshgrid(*2 * [torch.arange(56)], indexing="ij")) - torch.tensor(place)[:, None, None]
    ).abs()
    weights = (far.amax(0) == 1) / far.sum(0).clamp(min=1)
    expected = (picture * weights).sum((1, 2)) / weights.sum()
    torch.testing.assert_close(impute(picture, hole)[:, *place], expected, atol=0.05, rtol=0)  # noise of 0.01


def test_what_is_over_half_of_a_photograph_or_has_no_box_stays_in_it(tmp_path):
    picture = Image.new("RGB", (100, 100), "green")
    for boxes, removable in (([[0, 0, 0, 100, 60], [1, 0, 0, 9, 9]], ["dog"]), ([[1, 0, 0, 9, 9]], ["dog"])):
        assert redrawn.removable(photographs(tmp_path, picture, boxes), 0) == removable


def test_causes_of_a_data_set_without_boxes_is_refused():
    dataset = Dataset("nuswide", ("cat",), {"test": Split([], [], np.empty((0, 1)))})
    with pytest.raises(UserError, match="needs scenes, or photographs with boxes, and nuswide has none"):
        causes.Panel(SimpleNamespace(dataset=dataset), {})


def test_a_map_that_only_knows_the_size_foretells_nothing_beyond_it():
    rng = np.random.default_rng(0)
    area, cause = rng.random((2, 4000))
    plain, beyond = causal_maps._beyond(np.stack([area + 0.3 * rng.random(4000), area + cause, area]))
    assert plain > 0.4 and abs(beyond) < 0.05
    assert causal_maps._beyond(np.stack([area + cause, area + cause, area]))[1] == pytest.approx(1)


def test_every_map_is_judged_and_what_saw_no_image_is_not_compared_with_drawn_models(panel, pairs, monkeypatch):
    monkeypatch.setattr(causes, "DRAWS", 20)
    monkeypatch.setattr(causal_maps, "SHOWN", 4)
    monkeypatch.setattr(causal_maps, "NOISE", 0)
    frame, agreement = causal_maps.judged(panel, pairs, 6)
    methods = {model: set(one["method"]) for model, one in frame.groupby("model")}
    assert methods["gmp"] == {"grad-cam", "input gradient", *BASELINES}
    assert methods["msrn"] == methods["gmp"] | {"mean", "weighted"}
    blind = frame["method"].isin(BASELINES)
    stages = [*causal_maps.STAGES, "other label", "noise"]
    assert frame.loc[blind, stages].isna().all(None) and frame.loc[~blind, stages].abs().max(None) <= 1 + 1e-9
    assert frame.loc[~blind, "noise"].max() == pytest.approx(1)  # the same pictures; an even map is like none
    head = frame[frame["model"] == "gmp"]  # of one module
    assert head["head"].dropna().tolist() == head["last module"].dropna().tolist()
    assert frame[[*causal_maps.CHEAP]].notna().all(None) and agreement["score"].tolist() == list(causal_maps.CHEAP)


def test_each_value_is_resampled_with_its_own_image(monkeypatch):
    """Frames come batch by batch, every seed in each: rows of one seed do not stand together."""
    order = [(row, seed) for batch in ((0, 0, 1), (2, 2)) for seed in (0, 1) for row in batch]
    frame = pd.DataFrame(order, columns=["row", "seed"]).assign(model="a", method="mean", area=1.0, mass=0.0, fall=0.0)
    frame = frame.assign(**dict.fromkeys(causal_maps.localisation.SCORES, 0.0))
    seen = []
    monkeypatch.setattr(causal_maps, "_weights", lambda *_: frame)
    scores = {"agreement": 0.0, "beyond size": 0.0}
    monkeypatch.setattr(causal_maps, "resampled", lambda _, rows, seeds: seen.append(list(rows)) or scores)
    blank = pd.DataFrame({"model": ["a"], "method": ["mean"], "deletion": [0.0], "insertion": [0.0]})
    monkeypatch.setattr(causal_maps, "_curve_areas", lambda _: blank)
    monkeypatch.setattr(causal_maps, "_likeness", lambda _: blank[["model", "method"]])
    causal_maps.judged(SimpleNamespace(first=lambda: None), None, 3)
    assert seen[0] == [0, 0, 1, 2, 2]


def test_weights_are_drawn_anew_from_the_last_module_down(panel):
    one, changed = panel.first(), {}
    before = one.subjects["msrn"][0].model.state_dict()
    for stage in causal_maps.STAGES:
        anew = causal_maps._drawn_anew(one, stage)
        after = anew.subjects["msrn"][0].model.state_dict()
        changed[stage] = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert torch.equal(anew.backbone(images)[4], one.backbone(images)[4]) == (stage != "backbone")
    assert changed["last module"] == {"head"} and changed["head"] == changed["backbone"]
    assert {"head", "embed", "group_features"} < changed["head"] and "backbone" not in changed["head"]


def test_noise_is_as_strong_as_it_says_and_the_same_each_time():
    grey = Image.new("RGB", (80, 60), (128, 128, 128))
    noisy = [np.asarray(causal_maps._noisy(grey, 0.05, seed=1)) for _ in range(2)]
    assert np.array_equal(*noisy) and noisy[0].std() == pytest.approx(0.05 * 255, rel=0.03)


def test_the_input_gradient_is_that_of_the_pixels(panel):
    inputs, layers = panel.seen([scenes.draw_scene(0, 1, 0)[0]])(panel.subjects["gmp"][0])
    model = panel.subjects["gmp"][0].model
    (map,) = causal_maps._input_gradient(model, inputs, layers, [[3]])
    assert map.shape == (1, GRID, GRID) and map.sum() == pytest.approx(1, abs=1e-5)
    slope = torch.autograd.grad(model.classify(layers).logits[0, 3], inputs)[0][0]
    with torch.no_grad():
        moved = panel.backbone(inputs + 1e-2 * slope / slope.norm())
        gain = (model.classify(moved).logits - model.classify(layers).logits)[0, 3]
    assert gain.item() == pytest.approx(1e-2 * slope.norm().item(), rel=0.1)


def test_the_notebook_is_run_where_an_experiment_asks_for_it_and_its_findings_stand_on_the_page(tiny_study, tmp_path):
    asking = copy.copy(tiny_study)
    asking.experiment = dataclasses.replace(tiny_study.experiment, causes=Causes())
    runs = [{stage.name for stage in plan.stages(study)} for study in (tiny_study, asking)]
    assert runs[1] - runs[0] == {"09_causes"}
    assert report.findings(tmp_path) == ""
    findings.write(tmp_path / "tables", "causes-findings", "What pictures say.", ["A cat_a falls."])
    assert report.findings(tmp_path).endswith("- A cat\\_a falls.")


def intervals(name: str, *rows: tuple[float, float, float]) -> dict[str, list[float]]:
    return dict(zip((name, f"{name} low", f"{name} high"), map(list, zip(*rows, strict=True)), strict=True))


def test_sentences_say_the_numbers_and_their_verdicts_follow_the_intervals():
    frame = pd.DataFrame({"model": ["a", "b"], "lost, %": [60.0, 70.0], "others, %": [20.0, 30.0]})
    frame = frame.assign(**intervals("with co-occurrence", (0.1, -0.1, 0.2), (0.3, 0.2, 0.4)))
    sentence = shown.effects_sentence(frame.assign(**intervals("with own graph", (np.nan,) * 3, (0.2, 0.1, 0.3))))
    assert "60 to 70 % of the recognised labels" in sentence and "above 0 for 1 of 2" in sentence
    assert "by 20 to 30 %" in sentence and sentence.endswith("graph it is b +0.20 [+0.10, +0.30].")
    maps = pd.DataFrame({"model": ["a"] * 3, "method": ["grad-cam", "mean", "centre"]})
    agreement = pd.DataFrame({"score": ["energy", "curve"], **intervals("agreement", (0.1, 0, 1), (0.5, 0.4, 0.6))})
    for low, count in ((0.1, 2), (-0.1, 1)):
        beyond = intervals("beyond size", (0.4, 0.2, 0.6), (0.2, low, 0.5), (0.0, -1, 1))
        sentence = shown.maps_sentence(maps.assign(**beyond), agreement)
        assert f"shown for {count} of 2 maps" in sentence and "for none of 1 that saw no image" in sentence
        assert "own maps +0.20" in sentence and "curve agrees best with this (+0.50 [+0.40, +0.60])" in sentence
    assert "none is shown to agree with this" in shown.maps_sentence(maps.assign(**beyond), agreement[:1])
    lost = pd.DataFrame({"model": ["a", "b"], "Δ wrong place": [-1.0, -2.0], "Δ wrong company": [-9.0, -3.0]})
    graphs = pd.DataFrame({"model": ["a", "b"], "without": ["b", "a"]})
    graphs = graphs.assign(**intervals("Δ wrong place", (-1, -2, 1), (0, -1, 1)))
    graphs = graphs.assign(**intervals("Δ wrong company", (-6, -9, -1), (0.5, -1, 2)))
    sentence = shown.context_sentence(lost, graphs)
    assert "wrong place 1.0 (a) to 2.0 (b)" in sentence and "wrong company 3.0 (b) to 9.0 (a)" in sentence
    gaps = "−1.0 [−2.0, +1.0] points in the wrong place and −6.0 [−9.0, −1.0] points in the wrong company"
    assert f"Change of mAP, a less b: {gaps}" in sentence
