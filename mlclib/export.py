"""A finished run as an ONNX file that needs neither this library nor PyTorch."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mlclib.errors import UserError
from mlclib.files import written_whole
from mlclib.models import backbones
from mlclib.models.base import Classifier
from mlclib.models.msrn import MSRN
from mlclib.predict import load_model
from mlclib.runs import read

OPSET = 17
TOLERANCE = 1e-4


class Affine(nn.Module):
    """GMP or DSDL as it is after training: max pool, one matrix, one bias. (ONNX has no Cholesky solve.)"""

    def __init__(self, model: Classifier):
        super().__init__()
        self.backbone = model.backbone
        channels = model.backbone.channels[4]
        with torch.no_grad():  # the scores are affine in the pooled feature, so unit features give the matrix
            zero = model.classify({4: torch.zeros(1, channels, 1, 1)}).logits
            unit = model.classify({4: torch.eye(channels)[:, :, None, None]}).logits
        self.register_buffer("matrix", unit - zero)
        self.register_buffer("bias", zero[0])

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)[4].amax((2, 3)) @ self.matrix + self.bias


class Pooled(nn.Module):
    """MSRN as it is after training: the nodes are constants, and semantic pooling is its formula, node by node.

    (The library's own pooling loops over images, which would fix the batch.)
    """

    def __init__(self, model: MSRN):
        super().__init__()
        self.model = model
        with torch.no_grad():
            labels, groups, assignment = model.nodes()
        self.register_buffer("nodes", torch.cat((labels, groups))[..., None])  # [C + G, D, 1]
        self.register_buffer("assignment", assignment)

    def forward(self, images: Tensor) -> Tensor:
        maps = [map.flatten(2) for map in self.model.projected(self.model.backbone(images)).values()]  # [B, D, N] each
        pooled = [torch.stack([(torch.softmax(p * n, 2) * p).sum(2) for n in self.nodes], 1) for p in maps]
        return self.model.head(self.model.shared(torch.cat(pooled, 2), self.assignment).tanh())


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
    mean, std, interpolation = backbones.preprocessing(about["configuration"]["backbone"]["name"])
    model = load_model(run)
    whole = (Pooled if isinstance(model, MSRN) else Affine)(model).eval()
    facts = {"labels": about["labels"], "input_size": size, "mean": mean, "std": std, "interpolation": interpolation}
    with written_whole(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about shapes that are fixed on purpose
            torch.onnx.export(
                whole,
                (torch.zeros(2, 3, size, size),),
                str(part),
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
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


def difference(path: Path, model: Classifier, size: int) -> float:
    """The largest difference between the logits of an ONNX file and of its model, on random batches of 1 and 3."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(images).logits.numpy()
    found = [session.run(None, {"images": part.numpy()})[0] for part in (images, images[:1])]
    return float(max(np.abs(found[0] - wanted).max(), np.abs(found[1] - wanted[:1]).max()))
