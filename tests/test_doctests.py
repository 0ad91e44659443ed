"""The examples in the docstrings of metrics, models and transforms are true."""

import doctest
import importlib
import pkgutil

import pytest

import mlclib.metrics
import mlclib.models
import mlclib.transforms

PACKAGES = (mlclib.metrics, mlclib.models)
MODULES = ["mlclib.transforms", *(package.__name__ for package in PACKAGES)]
MODULES += [
    name for package in PACKAGES for _, name, _ in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
