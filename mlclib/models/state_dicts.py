"""Weights from elsewhere: whether a state dict is that of a model, and what of it is not."""

from collections.abc import Collection, Mapping
from typing import Any

from mlclib.common.errors import UserError

Shape = tuple[int | None, ...]  # None stands for a side of any size


def fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    """Whether a shape is the wanted one.

    Example:
        >>> fits((10, 300), (10, None)), fits((10,), (10, None))
        (True, False)
    """
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))


def check(state: Mapping[str, Any], wanted: Mapping[str, Shape], what: str, optional: Collection[str] = ()) -> None:
    """Raise UserError, which begins with `what`, unless the tensors of `state` have the wanted names and shapes.

    It names every key that is missing (but for the `optional`), left over, or of another shape.
    """
    wrong = [f"{key} is missing" for key in wanted if key not in state and key not in optional]
    wrong += [f"{key} is left over" for key in state if key not in wanted]
    wrong += [
        f"{key} is {list(state[key].shape)} where the model has {['any' if n is None else n for n in shape]}"
        for key, shape in wanted.items()
        if key in state and not fits(tuple(state[key].shape), shape)
    ]
    if wrong:
        more = f" and {len(wrong) - 12} more" if len(wrong) > 12 else ""
        raise UserError(f"{what}: {', '.join(wrong[:12])}{more}")


def shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a state dict."""
    return {key: tuple(value.shape) for key, value in state.items()}
