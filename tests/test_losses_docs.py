"""The examples of docs/losses.md run and do what they say; its names are those there are."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ssimrdo import losses

TEXT = (Path(__file__).parents[1] / "docs/losses.md").read_text()


def example(section, number=0):
    """Run an example of a section; return what it has defined."""
    part = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", part, re.DOTALL)[number], names)
    return names


def test_in_numpy():
    names = example("In NumPy")
    assert 0 < names["loss"] < 1
    assert names["gradient"].shape == names["y"].shape


def test_in_scipy(capsys):
    names = example("In NumPy", 1)
    before, after = map(float, re.findall(r"\d\.\d+", capsys.readouterr().out))
    assert before > 0.5
    assert after < 0.005
    inside = np.s_[5:-5, 5:-5]
    assert np.abs(names["found"] - names["x"])[inside].mean() < 0.02


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch: scripts/setup torch")
def test_in_pytorch():
    names = example("In PyTorch")
    criterion, clean = names["criterion"], names["clean"]
    assert names["loss"].item() < criterion(names["noisy"], clean).item()


def test_names_all_losses():
    table = TEXT.partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert named == set(losses.__all__) - {"for_minimize"}


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch: scripts/setup torch")
def test_names_all_modules():
    from ssimrdo.losses import torch as torch_losses

    modules = {name for name in torch_losses.__all__ if name.endswith("Loss")}
    assert set(re.findall(r"`(\w+Loss)`", TEXT)) == modules
    assert set(torch_losses.__all__) - modules == set(losses.__all__) - {"for_minimize"}
