"""What a result depends on: the project's own code, and the packages that this code imports.

A module counts by its syntax tree without docstrings, so comments, docstrings and layout change nothing. Imports are
read from the text; nothing is imported. A package counts with the data files that lie beside its __init__.
"""

import ast
import hashlib
import json
import re
import sys
from functools import cache
from pathlib import Path

from mlclib.common.files import sha256

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"

# They change no number and no figure.
NO_RESULT = (
    *("mlclib.common.errors", "mlclib.common.files", "mlclib.common.progress"),
    *("mlclib.common.validation", "mlclib.common.yaml_files", "mlclib.runs.notebooks", "mlclib.inference.explorer"),
)

# Packages that are imported under another name than the one they are installed by.
_INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def digest(text: str) -> str:
    """12 hexadecimal digits that stand for the code in `text`, without its comments, docstrings and layout.

    >>> digest("x = 1  # one") == digest("x=1")
    True
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not getattr(node, "type_params", True):  # new in Python 3.12: a digest is the same on every version
            del node.type_params
        first = node.body[0] if isinstance(node, _DOCUMENTED) and node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
    whole = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return hashlib.sha256(ast.dump(tree, **whole).encode()).hexdigest()[:12]


def code_digests(*entries: str, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The files that the modules `entries` ("mlclib.config") rest on, {"mlclib/config.py": digest, ...}.

    Imports of the project's own modules are followed, but not into those of `without`, and not from a package's
    __init__ to its members (whoever depends on a member names it as an entry). Other packages stand there with the
    version that requirements.lock names, {"torch": "2.14.1"}.
    """
    digests: dict[str, str] = {}
    queue, packages = list(entries), set()
    while queue:
        module = queue.pop()
        path = _file(module)
        name = path.relative_to(ROOT).as_posix() if path else ""
        if path is None or name in digests or module in without:
            continue
        digests[name], own, outside = _read(path)
        packages |= outside
        is_package = path.name == "__init__.py"
        if not is_package or module in entries:
            queue += own
        if is_package:
            data = (file for file in path.parent.glob("[!.]*.*") if file.suffix not in (".py", ".pyc"))
            digests |= {file.relative_to(ROOT).as_posix(): sha256(file) for file in data}
    versions = _locked()
    installed = {_INSTALLED_AS.get(package, package).lower() for package in packages}
    digests |= {package: versions[package] for package in installed & versions.keys()}
    return dict(sorted(digests.items()))


def notebook_digests(path: Path) -> dict[str, str]:
    """Digests of a notebook's code cells and of all that the modules they import rest on."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    modules, _ = _imported(ast.parse(code))
    return {f"notebooks/{Path(path).name}": digest(code), **code_digests(*modules, without=NO_RESULT)}


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What differs between two such descriptions, one phrase per difference.

    >>> changes({"torch": "2.1", "numpy": "2.0"}, {"torch": "2.2"})
    ['torch: 2.1 -> 2.2', 'numpy is gone']
    """
    phrases = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if old is None or new is None:
            phrases.append(f"{key} is {'new' if old is None else 'gone'}")
        elif re.fullmatch("[0-9a-f]{12,64}", old):  # a digest would say nothing to a reader
            phrases.append(f"{key} changed")
        else:
            phrases.append(f"{key}: {old} -> {new}")
    return phrases


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """A module's digest, the project's modules that it imports, and the other packages."""
    text = path.read_text(encoding="utf-8")
    own, outside = _imported(ast.parse(text))
    return digest(text), tuple(sorted(own)), frozenset(outside)


def _imported(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The project's modules and the other packages that the code imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import name` may name a module or what stands in one.
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [member if _file(member) else node.module for member in members]
    own = {name for name in names if name.split(".")[0] == "mlclib"}
    return own - {"mlclib"}, {name.split(".")[0] for name in names} - {"mlclib"}


@cache
def _file(module: str) -> Path | None:
    """The file of one of the project's modules."""
    stem = ROOT / module.replace(".", "/")
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@cache
def _locked() -> dict[str, str]:
    lines = LOCK.read_text(encoding="utf-8").splitlines() if LOCK.is_file() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip().lower(): version.split()[0].rstrip("\\") for name, version in pairs}
