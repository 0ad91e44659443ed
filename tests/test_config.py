import math
import subprocess
import sys

import pytest

from mlclib import config, datasets
from mlclib.common.errors import UserError

PLAIN = "title: t\ndataset: {name: scenes}\nmodels: {gmp: {}, msrn: {options: {width: 8}}}\n"
FROZEN = "backbone: {frozen: true}\n"


def of(models, dataset="{name: scenes}"):
    return f"title: t\ndataset: {dataset}\nmodels: {models}\n"


def axes(text):
    return PLAIN + f"ablation: {{msrn: {text}}}\n"


def ranges(text, trials=4):
    return PLAIN + f"tuning: {{trials: {trials}, ranges: {text}}}\n"


def written(tmp_path, text=PLAIN):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN + "sedes: [0]\n", ["unknown key 'sedes'", "own.yaml", "seeds"]),
        (PLAIN + "backbone: {nmae: x}\n", ["unknown key 'nmae' in backbone", "did you mean 'name'"]),
        (PLAIN + "name: x\n", ["the key 'name'", "title"]),
        (PLAIN + "training: {watch_test: true}\n", ["'watch_test' in training", "called 'eval_test_each_epoch' now"]),
        ("title: t\ndataset: {name: scenes}\n", ["models", "lacks"]),
        # Types and ranges: nothing is turned into another type.
        (PLAIN + "training: {epochs: '3'}\n", ["training.epochs of", "own.yaml", "whole number", "'3'"]),
        (PLAIN + "training: {epochs: 3.0}\n", ["training.epochs", "whole number"]),
        (PLAIN + "training: {epochs: -3}\n", ["training.epochs", "own.yaml", "greater than 0", "-3"]),
        (PLAIN + "training: {learning_rate: .inf}\n", ["training.learning_rate", "finite"]),
        (PLAIN + "training: {deterministic: 1}\n", ["training.deterministic", "true or false"]),
        (PLAIN + "training: {schedule: cosin}\n", ["unknown schedule 'cosin'", "did you mean 'cosine'"]),
        (PLAIN + "training: {augmentation: msnr}\n", ["models.gmp", "unknown augmentation", "did you mean 'msrn'"]),
        (PLAIN + "training: {step_epochs: [a]}\n", ["training.step_epochs.0", "whole number"]),
        (PLAIN + "seeds: [1, 2, 1]\n", ["seeds", "must not hold 1 twice"]),
        (PLAIN + "seeds: []\n", ["seeds", "one or more"]),
        (PLAIN + "exclude: [000012]\n", ["exclude.0", "text (put it in quotes)"]),
        (PLAIN + "label_vectors: tabel\n", ["unknown label vectors 'tabel'", "did you mean 'table'"]),
        (PLAIN + "backbone: resnet101\n", ["backbone", "mapping", "'resnet101'"]),
        (PLAIN + "notes: text\n", ["notes", "must be a list", "'text'"]),
        # Models, their options and axes.
        (of("[msrn]"), ["models of", "own.yaml", "mapping", "['msrn']"]),
        (of("{a/b: {model: gmp}}"), ["models.a/b", "without slash"]),
        (of("{foo: {}}"), ["models.foo of", "own.yaml", "unknown model 'foo'", "msrn"]),
        (of("{msrn: {options: {widht: 8}}}"), ["models.msrn of", "own.yaml", "'widht'", "did you mean 'width'"]),
        (of("{msrn: {options: {group_ratio: .nan}}}"), ["models.msrn", "group_ratio of model msrn", "finite"]),
        (of("{gmp: {training: {epochs: 0}}}"), ["epochs of models.gmp.training", "'own'", "greater than 0"]),
        (PLAIN + "attention: {models: [dsdl]}\n", ["unknown model 'dsdl'", "gmp, msrn"]),
        (PLAIN + "ablation: {dsdl: {alpha: [1]}}\n", ["unknown model 'dsdl'", "gmp, msrn"]),
        (axes("{grpah: [none]}"), ["ablation axis 'grpah'", "ablation.msrn", "own.yaml", "did you mean 'graph'"]),
        (axes("{graph: [idnetity]}"), ["ablation.msrn.graph, value idnetity, of", "own.yaml", "'identity'"]),
        (axes("{head+width: [[mlp]]}"), ["ablation.msrn.head+width", "2 lists", "head, width"]),
        (axes("{head+width: [[mlp], [8, x]]}"), ["ablation.msrn.head+width", "value head mlp; width x"]),
        (axes("{width: 4}"), ["ablation.msrn.width", "must be a list"]),
        # Ranges of tuning.
        (ranges("{}"), ["tuning.ranges of", "one or more"]),
        (ranges("{mrsn: {training.epochs: [1, 2]}}"), ["unknown model 'mrsn' in tuning.ranges", "did you mean 'msrn'"]),
        (ranges("{'*': {training.workers: [1, 2]}}"), ["'training.workers' in tuning.ranges"]),  # changes no result
        (ranges("{'*': {options.width: [4, 8, 16, 32]}}"), ["unknown setting of gmp 'options.width'"]),
        (ranges("{'*': {training.epochs: [1, 0]}}", 2), ["training.epochs of gmp", "not 0", "greater than 0"]),
        (ranges("{'*': {training.epochs: {low: 1, high: 9}}}"), ["training.epochs of gmp", "whole number"]),
        (ranges("{'*': {training.epochs: 3}}"), ["tuning.ranges.*.training.epochs", "a list of values", "not 3"]),
        (ranges("{'*': {training.momentum: {lo: 0.1, high: 0.9}}}"), ["own.yaml", "'lo' in tuning.ranges"]),
        (ranges("{'*': {training.momentum: {low: 0.9, high: 0.1}}}"), ["tuning.ranges", "low must be below high"]),
        (ranges("{'*': {training.momentum: {low: 0, high: 0.9, log: true}}}"), ["tuning.ranges", "above 0"]),
        (ranges("{'*': {training.epochs: [1, 2, 3]}}"), ["3 settings of model gmp", "tuning.trials is 4"]),
        (axes("{width: [4]}") + "tuning: {trials: 2, ranges: {'*': {training.epochs: [1, 2]}}}\n", ["both tuning and"]),
        # Data sets and their options, without any data.
        (of("{gmp: {}}", "{root: x}"), ["dataset of", "own.yaml", "must hold its name"]),
        (of("{gmp: {}}", "{name: scenes, root: 3}"), ["dataset of", "its root", "text"]),
        (of("{gmp: {}}", "{name: scnes}"), ["own.yaml", "data set 'scnes'", "did you mean 'scenes'"]),
        (of("{gmp: {}}", "{name: scenes, trian: 3}"), ["own.yaml", "key 'trian'", "did you mean 'train'"]),
        (of("{gmp: {}}", "{name: voc2012, test: vla}"), ["unknown test 'vla'", "did you mean 'val'"]),
        # What a frozen backbone would ignore.
        (PLAIN + "backbone: {weights: null, frozen: true}\n", ["its random weights are stored nowhere"]),
        (FROZEN + PLAIN + "training: {augmentation: msrn}\n", ["models.gmp", "training.augmentation", "frozen"]),
        (FROZEN + ranges("{'*': {training.frozen_layers: [0, 2]}}", 2), ["tuning.ranges", "gmp", "none of it learns"]),
        # Files that are no experiment.
        (PLAIN + "title: [\n", ["line", "not valid YAML"]),
        (PLAIN + "include: 3\n", ["include", "own.yaml", "a file, or a list of files"]),
        (PLAIN + "include: none.yaml\n", ["include", "none.yaml"]),
        (PLAIN + "include: _tuned_a-tuning.yaml\n", ["`make reproduce EXPERIMENT=a-tuning` writes it"]),
        (PLAIN + "include: own.yaml\n", ["own.yaml includes itself"]),
        ("", ["own.yaml holds no keys"]),
        (PLAIN + "training:\n  epochs: 3\n  epochs: 4\n", ["own.yaml line 6", "the key 'epochs'", "line 5"]),
        (PLAIN + "? [a]\n: x\n", ["own.yaml line 4", "no text"]),
        (PLAIN + "notes: [2007-13-01]\n", ["own.yaml", "not valid YAML", "month"]),
    ],
)
def test_a_mistake_in_an_experiment_is_one_sentence_that_names_file_and_key(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        config.load(written(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_error_for_an_unknown_experiment_or_model_lists_the_valid_ones(tmp_path):
    with pytest.raises(UserError, match="unknown experiment 'dmo'.*did you mean 'demo'.*demo"):
        config.load("dmo")
    with pytest.raises(UserError, match="there is no file my/own.yaml: give the path"):
        config.load("my/own.yaml")
    with pytest.raises(UserError, match="unknown model 'mrsn'.*did you mean 'msrn'.*gmp, msrn"):
        config.load(written(tmp_path)).run_config("mrsn")


def test_an_include_is_overlaid_key_by_key_and_so_is_a_models_own_training(tmp_path):
    (tmp_path / "base.yaml").write_text("title: base\ntraining: {epochs: 7, batch_size: 5}\n", encoding="utf-8")
    text = PLAIN.replace("gmp: {}", "gmp: {training: {epochs: 2}}")
    experiment = config.load(written(tmp_path, f"include: base.yaml\ntraining: {{epochs: 3}}\n{text}"))
    assert (experiment.title, experiment.training.epochs, experiment.training.batch_size) == ("t", 3, 5)
    recipes = [experiment.run_config(model).training for model in ("gmp", "msrn")]
    assert [(recipe.epochs, recipe.batch_size) for recipe in recipes] == [(2, 5), (3, 5)]


def test_overrides_from_the_command_line_change_single_keys(tmp_path):
    values = config.parse_overrides(["training.epochs=4", "seeds=[1, 2]", "training.learning_rate=1e-3"])
    experiment = config.load(written(tmp_path), values)
    assert (experiment.training.epochs, experiment.seeds, experiment.training.learning_rate) == (4, (1, 2), 1e-3)
    with pytest.raises(UserError, match="key=value"):
        config.parse_overrides(["training.epochs"])


def test_a_runs_identity_changes_with_what_changes_its_result_and_with_nothing_else(tmp_path):
    path = written(tmp_path)
    identity = config.load(path).run_config("msrn").identity()
    same = {
        "training.workers": 3,
        "training.checkpoint_minutes": 2.5,
        "training.keep_weights": False,
        "dataset.root": "elsewhere",
        "seeds": [4],
    }
    other = {"training.epochs": 3, "models.msrn.options.width": 9, "input_size": 32, "dataset.train": 7}
    other |= {"training.threads": 3, "training.deterministic": False, "training.precision": "bfloat16"}
    other |= {"training.evaluation_precision": "bfloat16", "training.eval_test_each_epoch": True, "training.images": 5}
    other |= {"training.init": "a", "backbone.name": "resnet18", "label_vectors": "random"}
    other |= {"models.msrn.label_vectors": "one-hot", "models.msrn.input_size": 64}
    for key, value in same.items():
        assert config.load(path, {key: value}).run_config("msrn").identity() == identity, key
    for key, value in other.items():
        assert config.load(path, {key: value}).run_config("msrn").identity() != identity, key


def test_training_on_all_images_leaves_the_identity_of_a_run_as_it_was():
    run = config.load("coco18-curves").run_config("linear")
    assert "images" not in run.identity()["training"]
    variants = config.load("coco18-curves").variants("linear", "training.images")
    assert [one.identity()["training"]["images"] for one in variants.values()] == [500, 1000, 2000, 4000, 6000, 12000]


def test_axes_run_apart_from_each_other_and_crossed(tmp_path):
    experiment = config.load(
        written(tmp_path, axes("{width: [4, 8], layers+label_vectors: [[[4], [2, 4]], [table, one-hot]]}"))
    )
    apart, crossed = (experiment.variants("msrn", axis) for axis in ("width", "layers+label_vectors"))
    assert {value: run.options for value, run in apart.items()} == {"4": {"width": 4}, "8": {"width": 8}}
    assert apart["8"] == experiment.run_config("msrn")
    assert list(crossed)[:2] == ["layers 4; label_vectors table", "layers 4; label_vectors one-hot"]
    last = crossed["layers 2, 4; label_vectors one-hot"]
    assert len(crossed) == 4 and (last.options, last.label_vectors) == ({"width": 8, "layers": [2, 4]}, "one-hot")


@pytest.mark.parametrize(
    ("axis", "values", "expected"),
    [
        ("training.loss", "[soft-margin, asymmetric]", [("soft-margin", 448), ("asymmetric", 448)]),
        ("input_size+training.loss", "[[64, 32], [focal]]", [("focal", 64), ("focal", 32)]),
        ("head+training.loss", "[[mlp], [focal]]", [("focal", 448)]),
        ("backbone.name", "[resnet18]", [("soft-margin", 448)]),
    ],
)
def test_an_axis_may_vary_the_recipe_the_input_size_and_the_backbone(tmp_path, axis, values, expected):
    experiment = config.load(written(tmp_path, axes(f"{{{axis}: {values}}}")))
    runs = list(experiment.variants("msrn", axis).values())
    assert [(run.training.loss, run.input_size) for run in runs] == expected
    assert all(run.options == {"width": 8} | ({"head": "mlp"} if "head" in axis else {}) for run in runs)
    assert {run.backbone.name for run in runs} == {"resnet18" if "backbone" in axis else "resnet101"}


def test_a_file_that_is_not_utf8_is_one_sentence(tmp_path):
    path = written(tmp_path)
    path.write_bytes(PLAIN.encode() + "notes: [café]\n".encode("latin-1"))
    with pytest.raises(UserError, match="own.yaml is not UTF-8"):
        config.load(path)


def test_whole_numbers_stand_for_others_and_a_merged_mapping_may_change_its_keys(tmp_path):
    text = "training: {<<: {epochs: 3, momentum: 0}, epochs: 4}\n"
    training = config.load(written(tmp_path, PLAIN + text)).training
    assert (training.epochs, training.momentum) == (4, 0.0) and isinstance(training.momentum, float)


def test_a_dataset_that_is_loaded_takes_the_same_options_as_one_that_is_checked(tmp_path):
    for options, words in (({"trian": 3}, "unknown key 'trian'.*'train'"), ({"train": "3"}, "train.*whole number")):
        with pytest.raises(UserError, match=words):
            datasets.check_options("scenes", options)
        with pytest.raises(UserError, match=words):
            datasets.load("scenes", tmp_path / "scenes", **options)
    assert not (tmp_path / "scenes").exists()
    for name in datasets.NAMES:
        datasets.check_options(name, {})


def test_the_command_line_does_not_wait_for_torch_before_an_experiment_is_read():
    code = "import sys, mlclib.__main__, mlclib.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


SHIPPED = sorted(path.stem for path in config.FOLDER.glob("[!_]*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_experiment_of_the_project_is_valid(name):
    experiment = config.load(name)
    for model, axes in experiment.ablation.items():
        for axis, values in axes.items():
            crossed = math.prod(map(len, values)) if "+" in axis else len(values)
            assert len(experiment.variants(model, axis)) == crossed
