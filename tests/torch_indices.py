"""Indices of other people, written in PyTorch; tests that use them are skipped without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench_peers import load_piq


def piq() -> Any:
    """Return the package piq, or skip the test."""
    torch = pytest.importorskip("torch", reason="piq needs PyTorch (scripts/setup test-torch)")
    # Frames are small, and other tests may run beside these.
    torch.set_num_threads(1)
    try:
        return load_piq()
    except ImportError:
        pytest.skip("piq is not installed (scripts/setup test-torch)")


def tensor(frame: np.ndarray[Any, Any]) -> Any:
    """Return a frame as a batch of one with one channel, in doubles."""
    torch = pytest.importorskip("torch")
    return torch.from_numpy(frame.astype(np.float64))[None, None]
