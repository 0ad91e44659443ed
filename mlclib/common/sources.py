"""What a result depends on in the project's own code, and in the packages that this code imports.

A module counts by its syntax tree without docstrings, so a comment, a docstring or another layout changes nothing.
What a module imports is read from its text, never by importing it. A package counts with the data files that lie
beside its __init__, as the published figures.
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
    *("mlclib.runs.execution", "mlclib.inference.explorer"),
)

# Where a package is imported under another name than it is installed by.
_INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "great_tables": "great-tables"}


def digest(text: str) -> str:
    """12 hexadecimal digits that stand for the code in `text`, whatever its comments, docstrings and layout."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not getattr(node, "type_params", True):  # new in Python 3.12: a digest is the same on every version
            del node.type_params
        body = getattr(node, "body", None)
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:]
    whole = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return hashlib.sha256(ast.dump(tree, **whole).encode()).hexdigest()[:12]


def parts(*entries: str, without: tuple[str, ...] = ()) -> dict[str, str]:
    """What the code of the modules `entries` ("mlclib.config") rests on: {"mlclib/config.py": digest, ...}.

    Followed are imports of the project's own modules, but not into those of `without`, nor from a registry (a package
    whose __init__ imports its members) to the members: who depends on a member names it as an entry. The packages
    imported on the way stand there with the version that requirements.lock names, {"torch": "2.14.1"}.
    """
    seen: dict[str, str] = {}
    left, outside = list(entries), set()
    while left:
        module = left.pop()
        path = _file(module)
        name = path.relative_to(ROOT).as_posix() if path else ""
        if path is None or name in seen or module in without:
            continue
        seen[name], own, packages = _read(path)
        outside |= packages
        if path.name != "__init__.py":
            left += own
            continue
        left += own if module in entries else ()
        beside = (file for file in path.parent.glob("[!.]*.*") if file.suffix not in (".py", ".pyc"))
        seen |= {file.relative_to(ROOT).as_posix(): sha256(file) for file in beside}
    versions = _locked()
    for package in outside:
        installed = _INSTALLED_AS.get(package, package).lower()
        if installed in versions:
            seen[installed] = versions[installed]
    return dict(sorted(seen.items()))


def notebook(path: Path) -> dict[str, str]:
    """The same of a notebook: its code cells, and the modules that they import."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    modules, _ = _imported(ast.parse(code), "")
    return {f"notebooks/{Path(path).name}": digest(code), **parts(*modules, without=NO_RESULT)}


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What differs between two of these (or of any such) descriptions, a phrase each."""
    found = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if old is None or new is None:
            found.append(f"{key} is {'new' if old is None else 'gone'}")
        elif re.fullmatch("[0-9a-f]{12,64}", old):
            found.append(f"{key} changed")
        else:
            found.append(f"{key}: {old} -> {new}")
    return found


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """A module's digest, the project's modules that it imports, and the roots of the other packages."""
    text = path.read_text(encoding="utf-8")
    package = path.parent.relative_to(ROOT).as_posix().replace("/", ".")
    own, outside = _imported(ast.parse(text), package)
    return digest(text), tuple(sorted(own)), frozenset(outside)


def _imported(tree: ast.AST, package: str) -> tuple[set[str], set[str]]:
    own, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import name` may name a module or what stands in one
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _file(name) else node.module for name in names]
        else:
            continue
        for name in names:
            (own if name.split(".")[0] == "mlclib" else outside).add(name)
    return own - {"mlclib"}, {name.split(".")[0] for name in outside}


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
