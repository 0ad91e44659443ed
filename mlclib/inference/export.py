"""A finished run as an ONNX file that needs neither this library nor PyTorch."""

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import torch

from mlclib.common.errors import UserError
from mlclib.common.files import written_whole
from mlclib.inference.predict import load_model
from mlclib.models.base import Classifier
from mlclib.runs.store import read
from mlclib.training.inputs import transform_of

OPSET = 17
TOLERANCE = 1e-4


def export(run: str | Path, path: str | Path) -> float:
    """Write the run's model to `path` as ONNX; the largest difference of its logits from PyTorch's.

    Input "images": float32 [batch, 3, S, S], any batch, resized and normalised as the file's metadata say (input_size,
    mean, std, interpolation, labels, each as JSON). Output "logits": float32 [batch, C]. The file takes its name only
    after onnxruntime gave PyTorch's logits to 1e-4 on batches of 1 and 3 random images, alone and among others.
    Raises UserError where it did not, for a folder without a finished run, and without the packages of `export`.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  (only `difference` uses it, but it should not fail late)
    except ImportError as error:
        raise UserError(f"export needs the package {error.name}: pip install onnx onnxruntime") from None
    about = read(run).about
    size = about["configuration"]["input_size"]
    shown = transform_of(about["configuration"])
    model = load_model(run)
    facts = {"labels": about["labels"], "input_size": size, "mean": shown.mean, "std": shown.std}
    facts["interpolation"] = shown.interpolation
    with written_whole(path) as part:
        trace(model, part, size)
        proto = onnx.load(part)
        onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in facts.items()})
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, part)
        worst = difference(part, model, size)
        if not worst <= TOLERANCE:
            raise UserError(
                f"the ONNX model of {run} differs from PyTorch by up to {worst:.2g} (more than {TOLERANCE}): "
                f"{path} is not written"
            )
    return worst


def trace(model: Classifier, path: Path, size: int) -> None:
    """Write a model, as it is after training, to `path` as ONNX for images of this side and batches of any size."""
    model = copy.deepcopy(model)
    model.backbone.fix_size(size)  # ONNX has no operator that resizes embeddings as PyTorch does
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that are fixed on purpose
        torch.onnx.export(
            model.exported().eval(),
            (torch.zeros(2, 3, size, size),),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def difference(path: Path, model: Classifier, size: int) -> float:
    """The largest difference between the logits of an ONNX file and of its model, on random batches of 1 and 3."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(images).logits.numpy()
    found = [session.run(None, {"images": part.numpy()})[0] for part in (images, images[:1])]
    return float(max(np.abs(found[0] - wanted).max(), np.abs(found[1] - wanted[:1]).max()))
