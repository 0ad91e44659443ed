import pytest

from mlclib import config
from mlclib.errors import UserError

PLAIN = "title: t\ndataset: {name: scenes}\nmodels: {gmp: {}, msrn: {options: {width: 8}}}\n"


def written(tmp_path, text=PLAIN):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN + "sedes: [0]\n", ["unknown key 'sedes'", "own.yaml", "seeds"]),
        (PLAIN + "training: {epoch: 3}\n", ["unknown key 'epoch'", "training", "epochs"]),
        (PLAIN + "training: {epochs: many}\n", ["epochs", "int", "'many'"]),
        (PLAIN + "training: {optimizer: adm}\n", ["unknown optimizer 'adm'", "adamw, sgd"]),
        (PLAIN + "training: {learning_rate: fast}\n", ["learning_rate", "float", "'fast'"]),
        (PLAIN + "seeds: 3\n", ["seeds", "list"]),
        (PLAIN + "ablation: {dsdl: {alpha: [1]}}\n", ["unknown model 'dsdl'", "gmp, msrn"]),
        (PLAIN + "ablation: {msrn: {head+width: [[mlp]]}}\n", ["ablation.msrn.head+width", "2 lists", "head, width"]),
        (PLAIN + "attention: {models: [dsdl]}\n", ["unknown model 'dsdl'", "gmp, msrn"]),
        ("title: t\ndataset: {name: scenes}\n", ["models", "lacks"]),
        ("title: t\nmodels: {gmp: {}}\ndataset: {root: x}\n", ["dataset.name"]),
        (PLAIN + "title: [\n", ["line", "not valid YAML"]),
        (PLAIN + "include: none.yaml\n", ["include", "none.yaml"]),
        (PLAIN + "backbone: {frozen: true}\ntraining: {augmentation: msrn}\n", ["augmentation", "frozen"]),
        ("title: t\ndataset: {name: scenes}\nmodels: {gmp: {option: {}}}\n", ["unknown key 'option'", "models.gmp"]),
    ],
)
def test_a_mistake_in_an_experiment_is_one_sentence_that_names_file_and_key(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        config.load(written(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_unknown_experiment_names_the_known_ones():
    with pytest.raises(UserError, match="unknown experiment 'dmo'.*did you mean 'demo'.*demo"):
        config.load("dmo")


def test_an_unknown_model_names_the_experiments_models(tmp_path):
    with pytest.raises(UserError, match="unknown model 'mrsn'.*did you mean 'msrn'.*gmp, msrn"):
        config.load(written(tmp_path)).run("mrsn")


def test_an_include_is_overlaid_key_by_key(tmp_path):
    (tmp_path / "base.yaml").write_text("title: base\ntraining: {epochs: 7, batch_size: 5}\n", encoding="utf-8")
    experiment = config.load(written(tmp_path, "include: base.yaml\ntraining: {epochs: 3}\n" + PLAIN))
    assert (experiment.title, experiment.training.epochs, experiment.training.batch_size) == ("t", 3, 5)


def test_a_models_own_training_is_laid_over_the_experiments(tmp_path):
    text = PLAIN.replace("gmp: {}", "gmp: {training: {epochs: 2}}") + "training: {epochs: 9, batch_size: 4}\n"
    experiment = config.load(written(tmp_path, text))
    assert experiment.run("gmp").training.epochs == 2
    assert experiment.run("gmp").training.batch_size == 4
    assert experiment.run("msrn").training.epochs == 9


def test_overrides_from_the_command_line_change_single_keys(tmp_path):
    values = config.parse_overrides(["training.epochs=4", "seeds=[1, 2]", "training.learning_rate=1e-3"])
    experiment = config.load(written(tmp_path), values)
    assert (experiment.training.epochs, experiment.seeds, experiment.training.learning_rate) == (4, (1, 2), 1e-3)
    with pytest.raises(UserError, match="key=value"):
        config.parse_overrides(["training.epochs"])


def test_a_runs_identity_changes_with_what_changes_its_result_and_with_nothing_else(tmp_path):
    path = written(tmp_path)
    identity = config.load(path).run("msrn").identity()
    same = {"training.workers": 3, "training.checkpoint_epochs": 5, "dataset.root": "elsewhere", "seeds": [4]}
    other = {"training.epochs": 3, "models.msrn.options.width": 9, "input_size": 32, "dataset.train": 7}
    for key, value in same.items():
        assert config.load(path, {key: value}).run("msrn").identity() == identity, key
    for key, value in other.items():
        assert config.load(path, {key: value}).run("msrn").identity() != identity, key


def test_axes_run_apart_from_each_other_and_crossed(tmp_path):
    axes = "{width: [4, 8], layers+label_vectors: [[[4], [2, 4]], [table, one-hot]]}"
    experiment = config.load(written(tmp_path, PLAIN + f"ablation: {{msrn: {axes}}}\n"))
    full, apart = experiment.run("msrn"), experiment.variants("msrn", "width")
    crossed = experiment.variants("msrn", "layers+label_vectors")
    assert {value: run.options for value, run in apart.items()} == {"4": {"width": 4}, "8": {"width": 8}}
    assert apart["8"] == full
    assert list(crossed)[:2] == ["layers 4; label_vectors table", "layers 4; label_vectors one-hot"]
    assert len(crossed) == 4
    last = crossed["layers 2, 4; label_vectors one-hot"]
    assert (last.options, last.label_vectors) == ({"width": 8, "layers": [2, 4]}, "one-hot")


def test_every_experiment_of_the_project_is_valid():
    for path in sorted(config.FOLDER.glob("[!_]*.yaml")):
        experiment = config.load(path.stem)
        for model in experiment.models:
            experiment.run(model)
        for model, axes in experiment.ablation.items():
            for axis in axes:
                assert experiment.variants(model, axis)
