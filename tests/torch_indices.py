"""Indices of other people, written in PyTorch: what those here are compared with.

Tests that use them skip themselves where PyTorch is missing.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import numpy as np
import pytest


def piq() -> Any:
    """Return the package piq, which imports torchvision for what is not used here."""
    torch = pytest.importorskip("torch", reason="piq needs PyTorch (scripts/setup torch)")
    # Frames are small, and other tests may run beside these.
    torch.set_num_threads(1)
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.models", "torchvision.transforms"):
            sys.modules.setdefault(name, _Empty(name))
    return pytest.importorskip("piq", reason="piq is not installed (scripts/setup torch)")


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


def tensor(frame: np.ndarray[Any, Any]) -> Any:
    """Return a frame as a batch of one with one channel, in doubles."""
    torch = pytest.importorskip("torch")
    return torch.from_numpy(frame.astype(np.float64))[None, None]
