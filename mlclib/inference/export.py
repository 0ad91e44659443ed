"""A finished run as an ONNX file that needs neither this library nor PyTorch."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.common.files import written_whole
from mlclib.inference.predict import load_model
from mlclib.models.base import Classifier
from mlclib.runs.store import read
from mlclib.training.inputs import transform_of
from mlclib.transforms import RECIPES

OPSET = 17
TOLERANCE = 1e-4
PREPROCESSING = (
    "Open the picture as RGB. Resize it to input_size x input_size, whatever its aspect ratio, by the Pillow filter "
    "that interpolation names. Divide by 255, subtract mean, divide by std. Where the model was trained to see the "
    "centre alone, the graph takes it. A label's probability is the sigmoid of its logit."
)


def export(run: str | Path, path: str | Path) -> float:
    """Write the run's model to `path` as ONNX; the largest difference of its logits from PyTorch's.

    Input "images": float32 [batch, 3, S, S], any batch, resized and normalised as the file's metadata say (input_size,
    mean, std, interpolation, labels, and preprocessing in words, each as JSON). S is input_size, which is larger than
    the run's where its recipe takes the centre of a larger picture: the graph does that. Output "logits": float32
    [batch, C]. The file takes its name only after onnxruntime gave PyTorch's logits to 1e-4 on batches of 1 and 3
    random images, alone and among others.
    Raises UserError where it did not, for a folder without a finished run, and without the packages of `export`.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  (only `difference` uses it, but it should not fail late)
    except ImportError as error:
        raise UserError(f"export needs the package {error.name}: pip install onnx onnxruntime") from None
    about, model = read(run).about, load_model(run)
    shown = transform_of(about["configuration"])
    recipe = RECIPES.get(shown.recipe)
    margin = recipe.margin if recipe and recipe.centre else 0
    facts = {"labels": about["labels"], "input_size": shown.size + margin, "mean": shown.mean, "std": shown.std}
    facts |= {"interpolation": shown.interpolation, "preprocessing": PREPROCESSING}
    with written_whole(path) as part:
        trace(model, part, shown.size, margin)
        proto = onnx.load(part)
        onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in facts.items()})
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, part)
        worst = difference(part, _Centre(model, shown.size, margin), shown.size + margin)
        if not worst <= TOLERANCE:
            raise UserError(
                f"the ONNX model of {run} differs from PyTorch by up to {worst:.2g} (more than {TOLERANCE}): "
                f"{path} is not written"
            )
    return worst


class _Centre(nn.Module):
    """A model that sees the centre of its images: they are by `margin` pixels larger than what it sees, `size`."""

    def __init__(self, model: nn.Module, size: int, margin: int):
        super().__init__()
        self.model, self.within = model, slice(round(margin / 2), round(margin / 2) + size)

    def forward(self, images: Tensor) -> Any:
        return self.model(images[:, :, self.within, self.within])


def trace(model: Classifier, path: Path, size: int, margin: int = 0) -> None:
    """Write a model, as it is after training, to `path` as ONNX for batches of any size.

    size: the side of the images that the model sees. margin: by how much larger those are that the graph takes.
    """
    model = copy.deepcopy(model)
    model.backbone.fix_size(size)  # ONNX has no operator that resizes embeddings as PyTorch does
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that are fixed on purpose
        torch.onnx.export(
            _Centre(model.exported(), size, margin).eval(),
            (torch.zeros(2, 3, size + margin, size + margin),),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def difference(path: Path, model: nn.Module, side: int) -> float:
    """The largest difference between the logits of an ONNX file and of its model, on random batches of 1 and 3."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images).logits.numpy()
    outputs = [session.run(None, {"images": part.numpy()})[0] for part in (images, images[:1])]
    return float(max(np.abs(outputs[0] - expected).max(), np.abs(outputs[1] - expected[:1]).max()))
