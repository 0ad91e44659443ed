"""The weights that a run keeps: all but a frozen backbone's."""

import torch

from mlclib.common.errors import UserError
from mlclib.models.base import Classifier


def trained_state(model: Classifier) -> dict[str, torch.Tensor]:
    """The model's state without a frozen backbone's, which run.yaml names."""
    return {key: value for key, value in model.state_dict().items() if not _frozen(model, key)}


def load_trained_state(model: Classifier, state: dict[str, torch.Tensor]) -> None:
    """Load what `trained_state` gave. Raises UserError naming the keys that are missing or left over."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [key for key in missing if not _frozen(model, key)]
    if missing or unexpected:
        raise UserError(f"the weights do not fit the model: missing {missing[:5]}, left over {unexpected[:5]}")


def _frozen(model: Classifier, key: str) -> bool:
    return model.backbone.frozen and key.startswith("backbone.")
