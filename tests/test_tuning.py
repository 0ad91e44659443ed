"""Equal tuning effort: as many trials for every model, known beforehand, scored by validation images alone."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import made_data
import numpy as np
import pandas as pd
import pytest
import rehearsal
import yaml
from sklearn.metrics import average_precision_score

from mlclib import config
from mlclib.common.errors import UserError
from mlclib.config import Experiment, Range
from mlclib.results import tuning as results
from mlclib.runs import check, plan, train, tuning
from mlclib.runs.study import Study

YAML = """
title: A tuning for tests
dataset: {name: folder, root: ROOT, table: labels.csv}
input_size: 64
backbone: {name: tf_efficientnet_lite0, weights: offline, frozen: true}
seeds: [100]
training: {epochs: 2, batch_size: 8, threads: 1}
models:
  gmp: {}
  msrn: {options: {head: elementwise, width: 8, group_ratio: 0.25}}
tuning:
  trials: 4
  ranges:
    "*":
      training.learning_rate: {low: 1e-3, high: 1e-1, log: true}
      training.weight_decay: {low: 0.0, high: 0.5}
      training.epochs: [1, 2, 3]
    msrn: {options.layers: [[4], [2, 3, 4]], training.epochs: [1]}
"""


@pytest.fixture(scope="module")
def yaml_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tuning")
    made_data.own_folder(folder / "photos")
    path = folder / "tuned.yaml"
    path.write_text(YAML.replace("ROOT", str(folder / "photos")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def study(yaml_file) -> Study:
    """A study whose trials are all trained; read it, do not change it."""
    study = Study(config.load(yaml_file), results=yaml_file.parent / "results")
    study.train_trials()
    return study


def identities(experiment: Experiment, model: str) -> list[dict]:
    return [run.identity() for run in tuning.trials(experiment, model)]


def changed(experiment: Experiment, **changes) -> Experiment:
    return dataclasses.replace(experiment, tuning=dataclasses.replace(experiment.tuning, **changes))


# The trials


def test_a_trial_is_a_function_of_seed_model_and_number_alone(yaml_file):
    experiment = config.load(yaml_file)
    for model in experiment.models:
        expected = identities(experiment, model)
        assert identities(config.load(yaml_file), model) == expected
        assert identities(changed(experiment, trials=9), model)[:4] == expected
        alone = dataclasses.replace(experiment, models={model: experiment.models[model]})
        assert identities(alone, model) == expected
        turned = {owner: dict(reversed(own.items())) for owner, own in experiment.tuning.ranges.items()}
        assert identities(changed(experiment, ranges=turned), model) == expected
        other = identities(changed(experiment, seed=1), model)
        assert other[0] == expected[0] and all(one not in expected for one in other[1:])


def test_every_model_has_as_many_trials_each_another_that_change_nothing_but_what_is_tuned(yaml_file):
    experiment = changed(config.load(yaml_file), trials=16)
    for model in experiment.models:
        first, *others = every = identities(experiment, model)
        assert len(every) == 16 and all(one not in every[:n] for n, one in enumerate(every))
        assert first == experiment.run_config(model).identity()
        assert all(1e-3 <= run["training"]["learning_rate"] <= 1e-1 for run in others)
        assert all(0 <= run["training"]["weight_decay"] <= 0.5 for run in others)
        epochs = {run["training"]["epochs"] for run in others}
        assert epochs == ({1, 2, 3} if model == "gmp" else {1})  # a model's own ranges are laid over the shared ones
        layers = {str(run["options"].get("layers")) for run in others}
        for run in others:
            for part, _, key in (name.partition(".") for name in experiment.ranges(model)):
                run[part][key] = first[part][key]
            assert run == first
    assert layers == {"[4]", "[2, 3, 4]"}


def test_all_models_try_the_same_points_of_the_ranges_that_they_share(yaml_file):
    ranges = {"*": {"training.learning_rate": Range(1e-4, 5e-2, log=True), "training.epochs": [5, 10, 20]}}
    ranges["msrn"] = {"options.group_ratio": [0.2, 0.4]}
    experiment = changed(config.load(yaml_file), trials=9, ranges=ranges)
    shared = [
        [(run["training"]["learning_rate"], run["training"]["epochs"]) for run in identities(experiment, model)[1:]]
        for model in ("gmp", "msrn")
    ]
    assert shared[0] == shared[1] and len(set(shared[0])) == 8


def test_lists_with_as_many_settings_as_trials_are_all_tried(yaml_file):
    ranges = {"*": {"training.epochs": [2, 3], "training.batch_size": [4, 8, 16]}}
    every = identities(changed(config.load(yaml_file), trials=6, ranges=ranges), "gmp")
    settings = {(run["training"]["epochs"], run["training"]["batch_size"]) for run in every}
    assert settings == set(itertools.product([2, 3], [4, 8, 16]))


# Scores and choice


def test_a_trial_is_scored_by_its_validation_images(study):
    trials = study.finished_trials()
    assert {model: len(each) for model, each in trials.items()} == {"gmp": 4, "msrn": 4}
    for model, values in tuning.scores(trials).items():
        for n, ((run,), score) in enumerate(zip(trials[model], values, strict=True)):
            assert run.names == study.dataset.splits["val"].names
            with np.load(study.runs[f"{model} trial {n} seed 100"].folder / "validation.npz") as file:
                logits, marks = file["logits_last"], file["targets"]
            shown = (marks == 1).any(axis=0)
            aps = [average_precision_score(marks[:, c] == 1, logits[:, c]) for c in np.flatnonzero(shown)]
            assert score == pytest.approx(100 * np.mean(aps))


def test_what_is_chosen_does_not_hang_on_the_test_images(study, tmp_path):
    """Trials without predictions on them give the same, and none is trained again for them."""
    shutil.copytree(study.results, tmp_path / "results")
    for folder in (tmp_path / "results" / "runs").rglob("seed-100"):
        sums = json.loads((folder / "manifest.json").read_text())
        for name in ("predictions.npz", "metrics.json"):
            (folder / name).unlink()
            del sums[name]
        (folder / "manifest.json").write_text(json.dumps(sums))
    without = Study(study.experiment, study.root, tmp_path / "results")
    assert not any(run.reasons for run in without.runs.values())
    trials, clean = without.train_trials(), study.finished_trials()
    assert tuning.overlay(study.experiment, trials) == tuning.overlay(study.experiment, clean)
    shown, expected = (results.trials_table(study.experiment, each) for each in (trials, clean))
    pd.testing.assert_frame_equal(shown.frame, expected.frame)
    results.effort_figure(trials)


def test_the_chosen_settings_are_those_of_the_best_trial(study, yaml_file):
    trials = study.finished_trials()
    path = tuning.write(study.experiment, trials, str(yaml_file))
    assert path == yaml_file.with_name("_tuned_tuned.yaml")
    contest = yaml_file.with_name("contest.yaml")
    contest.write_text(f"include: [tuned.yaml, {path.name}]\ntuning: null\nseeds: [0, 1]\n", encoding="utf-8")
    fresh = config.load(contest)
    assert fresh.tuning is None and fresh.seeds == (0, 1)
    for model, values in tuning.scores(trials).items():
        assert fresh.run_config(model).identity() == identities(study.experiment, model)[int(np.argmax(values))]
        assert f"{values.max():.2f}" in path.read_text(encoding="utf-8")
    equal = {model: [each[0]] * len(each) for model, each in trials.items()}  # the file's own settings come first
    models = yaml.safe_load(tuning.overlay(study.experiment, equal))["models"]
    assert models["gmp"]["training"] == {"epochs": 2, "learning_rate": 0.001, "weight_decay": 0.0001}
    assert models["msrn"]["options"] == {"layers": [2, 3, 4]}


@pytest.mark.parametrize("values", [[3.0], [1.0, 5.0, 2.0, 2.0, 9.5], list(range(9))])
def test_the_expected_best_of_k_trials_is_the_mean_over_all_choices_of_k(values):
    brute = [np.mean([max(c) for c in itertools.combinations(values, k)]) for k in range(1, len(values) + 1)]
    np.testing.assert_allclose(tuning.expected_best(np.array(values)), brute)


def test_the_table_says_what_tuning_gained(study):
    frame = results.trials_table(study.experiment, study.finished_trials()).frame
    assert list(frame["model"]) == ["gmp", "msrn"] and set(frame["trials"]) == {4}
    scores = tuning.scores(study.finished_trials())
    for row, values in zip(frame.itertuples(index=False), scores.values(), strict=True):
        assert row[2:6] == pytest.approx((values[0], values.max(), values.max() - values[0], values.argmax()))
    assert all("learning_rate" in text and "epochs" in text for text in frame["its settings"])
    assert sorted(frame["rank by 4"]) == [1, 2]


def test_a_setting_at_the_edge_of_its_range_is_recognised():
    rate, epochs = Range(1e-4, 1e-2, True), [5, 10, 20]
    assert results.at_the_edge(epochs, 20) and results.at_the_edge(rate, 1.2e-4)
    for values, inside in ((epochs, 10), (rate, 1e-3), ([2], 2), (["mlp", "linear", "x"], "x")):
        assert not results.at_the_edge(values, inside)


# The experiment


def test_its_jobs_are_its_trials_the_data_the_tuning_and_the_page_and_none_is_trained_again(study, monkeypatch):
    jobs = [job for job in plan.jobs(study, ("tuned",), 2) if job.kind != "maps"]
    trials = [f"train {model} trial {n} seed 100" for model in ("gmp", "msrn") for n in range(4)]
    assert [job.name for job in jobs] == [*trials, "01_data", "07_tuning", "page"]
    assert not any(job.reasons for job in jobs if job.kind == "train")
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("a finished trial was trained again"))
    Study(study.experiment, study.root, study.results).train_trials()


def test_without_a_validation_part_it_is_refused_in_a_sentence(study, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(study.root, photos)
    table = photos / "labels.csv"
    table.write_text(table.read_text().replace(",val\n", ",train\n"))
    without = Study(study.experiment, photos, tmp_path / "results")
    sentence = "experiment 'tuned' tunes on the validation part of its data set and folder has none"
    for asks in (lambda: without.runs, without.train_trials, lambda: plan.jobs(without, ("tuned",), 2)):
        with pytest.raises(UserError, match=sentence):
            asks()
    assert any(sentence in missing for missing in check.check(without).missing)


def test_a_tuning_runs_to_its_page_and_notices_settings_changed_by_hand(study, yaml_file, tmp_path, monkeypatch):
    path = Path(shutil.copy(yaml_file, tmp_path))
    shutil.copytree(study.results, tmp_path / "results")
    done = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(done)
    overlay = path.with_name("_tuned_tuned.yaml")
    overlay.write_text(overlay.read_text().replace("learning_rate", "momentum"))
    jobs = plan.jobs(Study(done.experiment, results=done.results), ("tuned",), 1)
    reasons = {job.name: job.reasons for job in jobs if job.reasons}
    assert any("_tuned_tuned.yaml was changed by hand" in reason for reason in reasons["07_tuning"])
    assert set(reasons) == {"07_tuning", "page"}
