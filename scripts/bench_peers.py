"""Indices of other people, written in PyTorch, that ours are compared with."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


class _Whatever(type):
    """Makes a class that has whatever is asked for, and can be inherited from."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder


class _Placeholder(metaclass=_Whatever):
    pass


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(_Placeholder, name)


def load_piq() -> Any:
    """Return the package piq.

    Its indices that need networks import torchvision, which has to be of PyTorch's build; where it
    is missing, empty modules stand in for it, as none of those is compared with.

    Raises
    ------
    ImportError
        If piq or PyTorch is missing.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("piq")
    stand_ins = ("torchvision", "torchvision.models", "torchvision.transforms")
    sys.modules.update((name, _Empty(name)) for name in stand_ins)
    try:
        return importlib.import_module("piq")
    finally:
        # Other packages, too, ask whether it is there.
        for name in stand_ins:
            del sys.modules[name]
