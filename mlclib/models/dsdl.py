"""DSDL, deep semantic dictionary learning (Zhou et al., AAAI 2021, arXiv 2012.12509)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import Affine, Backbone, Classifier, LabelInfo, Loss, Maps, Output, Positive, float32, stored


@dataclass(frozen=True)
class Options(base.Options):
    """alpha, lambd, beta: the paper's alpha, lambda and beta (VOC: 10, 10, 1e-4; COCO: 0.1, 0.1, 1e-6).

    hidden: width of the dictionary's auto-encoder.
    reconstruction: divide the loss by the mean cosine of the label vectors and their reconstruction.
    sparsity: the loss term lambda ||s||.
    coefficients: "closed-form" (the paper's alternating strategy, APUS) or "learnt" (a linear layer of the feature).
    learn_vectors: let the label vectors be learnt.
    """

    alpha: Annotated[float, Field(gt=0)] = 10.0  # at 0 the coefficients have no closed form
    lambd: float = 10.0
    beta: float = 1e-4
    hidden: Positive = 1024
    reconstruction: bool = True
    sparsity: bool = True
    coefficients: Literal["closed-form", "learnt"] = "closed-form"
    learn_vectors: bool = False


@dataclass
class DSDLOutput(Output):
    """logits: the coefficients s [B, C]. feature f [B, F], dictionary Dm [C, F], reconstruction V' [C, V]."""

    feature: Tensor
    dictionary: Tensor
    reconstruction: Tensor


class DSDL(Classifier):
    """An image's feature f is coded by a dictionary whose atoms are made of the labels' word vectors V.

    Dictionary Dm = LeakyReLU_0.2(V W1) W2, reconstruction V' = LeakyReLU_0.2(Dm W2^T) W1^T, coefficients
    s = (Dm Dm^T + alpha I)^-1 Dm f, which are the logits. Gradients go through the solve.
    f is the map's global max pool at every input size; the published 14 x 14 max pool is that at
    448 px, cannot run below it, and between 448 and 896 px would see the upper left 14 x 14 cells only.
    """

    Options = Options
    sums_over_batch = True  # Frobenius norms

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        stored(self, "label_vectors", label_info.need("vectors"), options.learn_vectors)
        width = self.label_vectors.shape[1]
        self.w1 = nn.Parameter(torch.empty(width, options.hidden))
        self.w2 = nn.Parameter(torch.empty(options.hidden, backbone.channels[options.layer]))
        nn.init.xavier_uniform_(self.w1)
        nn.init.xavier_uniform_(self.w2)
        if options.coefficients == "learnt":
            self.coefficients = nn.Linear(backbone.channels[options.layer], label_info.count)

    def dictionary(self) -> tuple[Tensor, Tensor]:
        """The dictionary Dm [C, F] and the label vectors' reconstruction V' [C, V], float32."""
        with float32(self.w1):
            dictionary = F.leaky_relu(self.label_vectors @ self.w1, 0.2) @ self.w2
            return dictionary, F.leaky_relu(dictionary @ self.w2.T, 0.2) @ self.w1.T

    def classify(self, maps: Maps) -> DSDLOutput:
        map = maps[self.options.layer]
        feature = map.amax((2, 3)).to(self.w1.dtype)  # [B, F], float32 whatever autocast made of it
        dictionary, reconstruction = self.dictionary()
        if self.options.coefficients == "learnt":
            scores = self.coefficients(feature).float()
        else:
            with float32(feature):
                gram = dictionary @ dictionary.T  # [C, C]
                # alpha keeps the matrix positive definite, so Cholesky never fails and no inverse is made
                gram = gram + self.options.alpha * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
                scores = torch.cholesky_solve(dictionary @ feature.T, torch.linalg.cholesky(gram)).T  # [B, C]
        return DSDLOutput(scores, feature, dictionary, reconstruction)

    def loss(self, output: DSDLOutput, targets: Tensor) -> Tensor:
        """(soft margin + beta (||s Dm - f||_F + lambda ||s||_F)) / mean cosine(V, V'), norms over the whole batch."""
        options = self.options
        with float32(output.logits):
            residual = (output.logits @ output.dictionary - output.feature).norm()
            if options.sparsity:
                residual = residual + options.lambd * output.logits.norm()
            loss = self.label_term(output.logits, targets) + options.beta * residual
            if options.reconstruction:
                loss = loss / F.cosine_similarity(self.label_vectors, output.reconstruction).mean()
        return loss

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.label_vectors, self.dictionary()[0]

    def exported(self) -> nn.Module:
        return Affine(self, "amax")  # ONNX has no Cholesky solve

    def authors_names(self) -> dict[str, str]:
        return {"W1": "w1", "W2": "w2", **self.resnet_names("features.", sequential=True)}
