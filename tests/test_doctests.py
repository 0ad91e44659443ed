"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import mlclib.metrics
import mlclib.models
import mlclib.transforms

PACKAGES = (mlclib.metrics, mlclib.models)
MODULES = ["mlclib.transforms", *(package.__name__ for package in PACKAGES)]
OTHERS = ("common.errors", "common.sources", "common.yaml_files", "datasets", "datasets.base", "datasets.labels")
MODULES += [f"mlclib.{name}" for name in OTHERS]
MODULES += [
    name for package in PACKAGES for _, name, _ in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
