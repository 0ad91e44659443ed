"""A model from outside the package: named in a YAML, trained, scored, drawn and exported with no line of ours changed.

And the baselines against an independent derivation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from mlclib import config, models
from mlclib.attention import localisation
from mlclib.common.errors import UserError
from mlclib.inference import export, predict
from mlclib.metrics import scores as metrics
from mlclib.models import base
from mlclib.results import scores as performance
from mlclib.runs import store
from mlclib.training.inputs import Maps
from mlclib.training.trainer import Trainer


@dataclass(frozen=True)
class Options(base.Options):
    power: float = 2.0


class Norms(base.Classifier):
    """Pools layers 3 and 4 by a power mean."""

    Options = Options

    def __init__(self, backbone, labels, options, loss):
        super().__init__(backbone, options, loss)
        self.head = nn.Linear(sum(backbone.channels.values()), labels.count)

    @classmethod
    def layers(cls, options):
        return (3, 4)

    def classify(self, maps: Mapping[int, Tensor]) -> base.Output:
        pooled = [(maps[layer].clamp(min=0) ** self.options.power).mean((2, 3)) for layer in (3, 4)]
        return base.Output(self.head(torch.cat(pooled, 1)).float())

    def embeddings(self):
        return None, self.head.weight


@pytest.mark.parametrize("named", ["test_outside:Norms", "norms"])
def test_a_model_of_one_s_own_goes_the_whole_way(named, tiny_yaml, tmp_path, monkeypatch):
    """Named by its class, or by the one line of the registry."""
    monkeypatch.setitem(models.MODELS, "norms", Norms)
    path = tmp_path / "outside.yaml"
    text = tiny_yaml.read_text(encoding="utf-8")
    start, end = text.index("models:"), text.index("attention:")
    own = f'models:\n  norms: {{model: "{named}", options: {{power: 1.5}}}}\n'
    path.write_text(text[:start] + own + text[end:], encoding="utf-8")
    from mlclib.runs.study import Study

    study = Study(config.load(path), results=tmp_path / "results")
    (run,) = study.train("norms")
    assert run.folder.parent.name.startswith("norms-") and "test_outside.py" in run.about["code"]
    assert np.isfinite(performance.scores_table({"norms": [run]}).frame["mAP"]).all()
    subject = predict.model_on_split(study, "norms")
    scores = localisation.localisation({0: subject}, range(4))
    assert set(scores["method"]) == {"grad-cam", "centre", "random"}
    assert export.export(run.folder, tmp_path / "norms.onnx") <= 1e-4
    assert predict.predict(run.folder, [study.dataset.splits["test"].paths[0]]).probabilities.shape[0] == 1
    assert store.finished(run.folder)


def test_what_is_no_model_is_one_sentence():
    for name in ("test_outside:Nothing", "no_such_module:Model"):
        with pytest.raises(UserError, match="cannot be imported"):
            models.build(name, labels=3)
    with pytest.raises(UserError, match="no subclass of mlclib.models.base.Classifier"):
        models.build("test_outside:Options", labels=3)


def learnable(images=240, labels=5, seed=0):
    """Maps [N, 96, 2, 2] whose mean and maximum both carry the labels."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((images, labels))
    mix = np.random.default_rng(9).standard_normal((labels, 96))
    maps = hidden @ mix + 2.0 * rng.standard_normal((images, 96))
    maps = np.maximum(maps[:, :, None, None] + rng.standard_normal((images, 96, 2, 2)), 0) * 3
    return maps.astype(np.float16), np.where(hidden > 0.8, 1, -1).astype(np.int8)


def test_the_linear_baseline_comes_as_far_as_a_logistic_regression(tmp_path):
    (train, marks), (test, answers) = learnable(), learnable(seed=1)
    torch.manual_seed(0)
    model = models.build("linear", labels=5, backbone="test_resnet", frozen=True)
    recipe = config.Training(epochs=60, batch_size=32, learning_rate=1e-3, weight_decay=1.0, threads=1)
    state = Trainer(model, Maps({4: train}, marks), Maps({4: test}, answers), recipe, 0, tmp_path).run()
    ours = metrics.evaluate(state.logits["last"].numpy(), answers)["mAP"]

    inputs, asked = (np.concatenate((m.astype(float).mean((2, 3)), m.max((2, 3))), 1) for m in (train, test))
    theirs = []
    for label in range(5):
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        scores = regression.fit(inputs, marks[:, label] == 1).decision_function(asked)
        theirs.append(average_precision_score(answers[:, label] == 1, scores))
    assert ours > np.mean(theirs) - 0.03 and np.mean(theirs) > 0.5


@pytest.mark.parametrize("name", ["gap", "gmp", "linear"])
def test_a_baseline_is_its_formula_in_float64(name):
    torch.manual_seed(1)
    options = {"norm": "layer"} if name == "linear" else {}
    model = models.build(name, labels=4, backbone="test_resnet", **options).eval()
    maps = torch.randn(3, 96, 5, 7)
    x = maps.double().numpy().reshape(3, 96, 35)
    mean, top = x.mean(2), x.max(2)
    feature = {"gap": mean, "gmp": top, "linear": np.concatenate((mean, top), 1)}[name]
    if name == "linear":
        feature = (feature - feature.mean(1, keepdims=True)) / np.sqrt(feature.var(1, keepdims=True) + 1e-5)
    weight, bias = (p.detach().double().numpy() for p in (model.head.weight, model.head.bias))
    np.testing.assert_allclose(model.classify({4: maps}).logits.detach(), feature @ weight.T + bias, atol=1e-5)
