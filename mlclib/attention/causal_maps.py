"""Does a map's weight on a thing predict how far the logit falls without it? Which cheaper scores of maps agree?"""

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor

from mlclib.attention import faithfulness, localisation, redrawn
from mlclib.attention.causes import Pairs, Panel, rank_correlation, resampled, transparent
from mlclib.attention.maps import BASELINES, GRID, Example, Key, baselines, explain, overall
from mlclib.models.base import Classifier

GRADIENT = Key("input gradient", "")
CHEAP = (*localisation.SCORES, "deletion", "insertion")  # scores of maps that need no picture drawn again
STAGES = ("last module", "head", "backbone")  # what cascading randomisation draws anew, each with those before it
COARSE = 14  # cells per side of the maps that are compared with each other
NOISE = 0.05  # standard deviation of the noise that a stable map does not mind, as a share of the range of pixels
SHOWN = 8  # images whose maps are compared; half of them for deletion and insertion


def judged(panel: Panel, removed: Pairs, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per model and method of maps, judged by the truth and by what needs none; and which of the latter agree.

    Columns: model; method; the rank correlation, over the labels of the first `count` images, of the map's weight where
    pixels change with the fall of the logit: what it "foretells", and "beyond size", given the share of pixels that
    change (a partial correlation); the mean of each of CHEAP; and `_likeness`. The second frame has for each of CHEAP
    (deletion with its sign turned, as less is better) its rank correlation "agreement" with "beyond size".
    """
    rows = []
    for (model, method), one in _weights(panel, removed, count).groupby(["model", "method"], sort=False):
        by_seed = [of_seed[["mass", "fall", "area"]].to_numpy().T for _, of_seed in one.groupby("seed")]

        def foretold(often, seeds, by_seed=by_seed):
            taken = np.repeat(np.arange(len(often)), often.astype(int))
            plain, beyond = np.mean([_beyond(by_seed[seed][:, taken]) for seed in seeds], axis=0)
            return {"foretells": plain, "beyond size": beyond}

        images = one.loc[one["seed"] == 0, "row"].to_numpy()  # frames come batch by batch, every seed in each
        means = one[list(localisation.SCORES)].mean().to_dict()
        rows.append({"model": model, "method": method} | resampled(foretold, images, len(by_seed)) | means)
    every = pd.DataFrame(rows).merge(_curve_areas(panel.first()), "left").merge(_likeness(panel.first()), "left")
    own = every[~every["method"].isin(BASELINES)].assign(deletion=lambda frame: -frame["deletion"])

    def agreement(score):
        def correlation(often, _):
            return {"agreement": rank_correlation(*both.repeat(often.astype(int), axis=1))}

        both = own[[score, "beyond size"]].to_numpy().T
        return resampled(correlation, own["model"].to_numpy(), 1)

    return every, pd.DataFrame([{"score": score} | agreement(score) for score in CHEAP])


def _beyond(columns: np.ndarray) -> tuple[float, float]:
    """The rank correlation of mass and fall, and the partial one given the area. columns: mass, fall, area [3, P]."""
    (_, plain, mass), (_, _, fall), _ = np.corrcoef(rankdata(columns, axis=1))
    return plain, (plain - mass * fall) / np.sqrt(max((1 - mass**2) * (1 - fall**2), 1e-12))


def _weights(panel: Panel, removed: Pairs, count: int) -> pd.DataFrame:
    """A row per map: model, seed, row, method, mass (its weight where pixels change), fall, area, and its scores."""
    at = {pair: number for number, pair in enumerate(zip(removed.rows, removed.labels, strict=True))}
    frames = []
    for model, seed, (rows, labels, _, masks), maps in explained(panel, range(min(count, len(removed.targets)))):
        shown = [(row, label) for row, of_image in zip(rows, labels, strict=True) for label in of_image]
        pair = np.array([at.get(one, -1) for one in shown])
        fall, regions = removed.falls(model)[seed, pair, removed.labels[pair]], removed.regions[pair]
        fall[pair < 0] = np.nan  # a thing too large to be taken away
        about = pd.DataFrame({"model": model, "seed": seed, "row": removed.rows[pair], "fall": fall})
        about["area"] = regions.mean((1, 2)).numpy()
        mass = [(map.flatten(0, 1) * regions).sum((1, 2)).numpy() for map in maps.values()]
        scored = localisation.score_frames(about, maps, masks)
        frames += [frame.assign(mass=weights) for frame, weights in zip(scored, mass, strict=True)]
    return pd.concat(frames, ignore_index=True).dropna(subset="fall")


def explained(
    panel: Panel, rows: Iterable[int], noise: float = 0
) -> Iterator[tuple[str, int, tuple, dict[Key, Tensor]]]:
    """For each batch of these test images (`localisation.batches`), model and seed (its place): the model, the seed,
    the batch, and maps [B, K, GRID, GRID] of the labels shown, each method's over all its layers.

    Of the first seed there is the input gradient too: |d logit / d pixel|, summed over colours (Simonyan et al., 2014).
    noise: standard deviation of Gaussian noise on the pictures, as a share of the range of pixels.
    """
    # few at a time, as the backbone keeps all that the input gradient needs
    for batch in localisation.batches(panel.study.dataset.splits["test"], rows, most=8):
        view = panel.seen([_noisy(redrawn.versions(panel.study, row)[0].picture, noise, row) for row in batch[0]])
        blind = baselines(*batch[:2])
        for model, seeds in panel.subjects.items():
            for seed, subject in enumerate(seeds.values()):
                inputs, layers = view(subject)
                every = explain(subject.model, layers, batch[1], subject.transform.size)
                maps = {key: every[key] for key in overall(every)}
                if seed == 0:
                    maps[GRADIENT] = _input_gradient(subject.model, inputs, layers, batch[1])
                yield model, seed, batch, maps | blind


def _noisy(picture: Image.Image, noise: float, seed: int) -> Image.Image:
    if not noise:
        return picture
    pixels = np.asarray(picture) + 255 * noise * np.random.default_rng(seed).standard_normal((*picture.size[::-1], 3))
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _input_gradient(model: Classifier, inputs: Tensor, layers: dict[int, Tensor], labels: list[list[int]]) -> Tensor:
    """The input gradient of K labels of each image as distributions [B, K, GRID, GRID]."""
    logits, maps = model.classify(layers).logits, []
    for column in torch.as_tensor(labels).T:
        (slopes,) = torch.autograd.grad(logits.gather(1, column[:, None]).sum(), inputs, retain_graph=True)
        cells = F.adaptive_avg_pool2d(slopes.abs().sum(1), GRID)
        maps.append(cells / cells.sum((1, 2), keepdim=True).clamp(min=1e-30))
    return torch.stack(maps, 1)


def _curve_areas(panel: Panel) -> pd.DataFrame:
    """Deletion and insertion on the first images: model, method and the mean area under each curve."""
    shown = {model: [] for model in panel.subjects}
    for model, _, (rows, labels, *_), maps in explained(panel, range(SHOWN // 2)):
        for at, k in np.ndindex(*np.shape(labels)):
            of_label = {Key(key.method, ""): map[at, k] for key, map in maps.items()}
            shown[model].append(Example(rows[at], labels[at][k], np.nan, 1, (), of_label))
    frames = []
    for model, seeds in panel.subjects.items():
        (subject,) = seeds.values()
        areas = faithfulness.curve_areas(faithfulness.faithfulness(subject, shown[model], steps=4))
        frames.append(areas.groupby("method", sort=False)[["deletion", "insertion"]].mean().assign(model=model))
    return pd.concat(frames).reset_index()


def _likeness(panel: Panel) -> pd.DataFrame:
    """How much maps of the first images resemble others, by rank correlations over coarse cells: model, method, STAGES
    (the model with weights drawn anew so far from the top: cascading randomisation, Adebayo et al., NeurIPS 2018),
    "other label" (another one that the image shows: after Sixt et al., ICML 2020), and "noise" (the same picture with
    NOISE: after the average sensitivity of Yeh et al., NeurIPS 2019).
    """
    trained, rows = list(explained(panel, range(SHOWN))), []
    compared = {stage: explained(_drawn_anew(panel, stage), range(SHOWN)) for stage in STAGES}
    compared |= {"other label": trained, "noise": explained(panel, range(SHOWN), NOISE)}
    for stage, against in compared.items():
        for (model, _, _, maps), (*_, others) in zip(trained, against, strict=True):
            for key in [key for key in maps if key.method not in BASELINES]:
                ranks, other = _ranks(maps[key]), _ranks(others[key])
                if stage == "other label":
                    other = np.roll(other, 1, axis=1) if other.shape[1] > 1 else np.full_like(other, np.nan)
                rows += [(model, key.method, stage, value) for value in (ranks * other).mean(2).ravel()]
    frame = pd.DataFrame(rows, columns=["model", "method", "stage", "alike"])
    return frame.groupby(["model", "method", "stage"], sort=False)["alike"].mean().unstack("stage").reset_index()


def _ranks(maps: Tensor) -> np.ndarray:
    """The ranks of a map's coarse cells, of mean 0 and deviation 1: [B, K, COARSE ** 2]; zeros of an even map."""
    ranks = rankdata(F.adaptive_avg_pool2d(maps, COARSE).flatten(2).numpy(), axis=2)
    ranks -= ranks.mean(2, keepdims=True)
    return ranks / ranks.std(2, keepdims=True).clip(1e-12)


def _drawn_anew(panel: Panel, stage: str) -> Panel:
    """The models with drawn weights in their last module, in their whole head, or in head and backbone."""
    one, setting = copy.copy(panel), panel.study.experiment.backbone
    torch.manual_seed(0)
    drawn = transparent(setting.name, None, panel.study.layers)
    one.backbone, one.subjects = drawn if stage == "backbone" and setting.frozen else panel.backbone, {}
    for model, seeds in panel.subjects.items():
        ((seed, subject),) = seeds.items()
        fresh, changed = panel.study.build(panel.study.experiment.run_config(model)), copy.deepcopy(subject.model)
        names = [name for name, _ in changed.named_parameters() if not name.startswith("backbone.")]
        if stage == "last module":  # Query2Label and ML-Decoder hold the weights of their classifier themselves
            last = {"weight", "bias"} & {*names} or {names[-1].partition(".")[0]}
            names = [name for name in names if name.partition(".")[0] in last]
        changed.load_state_dict(changed.state_dict() | {name: fresh.state_dict()[name] for name in names})
        if stage == "backbone" and not setting.frozen:
            changed.backbone = drawn
        one.subjects[model] = {seed: subject._replace(model=changed.eval())}
    return one
