"""YAML files of an experiment: includes laid over one another, and every mistake with its file and line."""

import re
from pathlib import Path
from typing import Any

import yaml

from mlclib.common.errors import UserError

Tree = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, to which 1e-4 is a number (as in YAML 1.2), and a repeated key is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            problem = None
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                problem = f"{key.value if key.id == 'scalar' else 'a list or mapping'} is no text, as a key must be"
            elif key.value in lines:
                problem = f"the key {key.value!r} stands in line {lines[key.value]} already; keep one of the two"
            if problem:
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str, where: str) -> Any:
    """What a YAML text holds. Raises UserError with `where` and the line for a text that is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: 2007-13-01 is no date
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}{line} is not valid YAML: {problem}") from None


def read(path: Path, included_by: tuple[Path, ...] = ()) -> Tree:
    """The mapping in a YAML file, laid over the files that its key `include` names.

    Raises UserError for a file that is empty, no mapping, not UTF-8, not there, or that includes itself.
    """
    if path.resolve() in included_by:
        raise UserError(f"{path} includes itself; take it out of include")
    try:
        tree = parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as such") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no keys; it must be a mapping such as 'title: ...'")
    includes = tree.pop("include", None) or []
    includes = [includes] if isinstance(includes, str) else includes
    if not isinstance(includes, list) or not all(isinstance(include, str) for include in includes):
        raise UserError(f"include of {path} must be a file, or a list of files, not {includes!r}")
    merged: Tree = {}
    for include in includes:
        file = path.parent / include
        if not file.is_file():
            stem = file.stem.removeprefix("_tuned_")
            writer = f"; `make reproduce EXPERIMENT={stem}` writes it" if stem != file.stem else ""
            raise UserError(f"include of {path} names {include!r}, and there is no {file}{writer}")
        merged = overlay(merged, read(file, (*included_by, path.resolve())))
    return overlay(merged, tree)


def overlay(base: Tree, top: Tree) -> Tree:
    """`top` laid over `base`, key by key in nested mappings."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def nested(dotted: str, value: Any) -> Tree:
    """The mapping that a dotted key stands for.

    Example:
        >>> nested("training.epochs", 3)
        {'training': {'epochs': 3}}
    """
    head, _, rest = dotted.partition(".")
    return {head: nested(rest, value) if rest else value}
