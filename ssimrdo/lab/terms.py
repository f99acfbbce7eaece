"""Luminance and contrast of SSIM under one disturbance, against mean and standard deviation.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015, Fig. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.lab.experiment import Experiment, Finding, LabSettings, Outcome, Panel, Table
from ssimrdo.lab.images import RANGE_HU
from ssimrdo.metrics import ssim_components, stabilizers
from ssimrdo.observer import Observer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTURBANCE: Final = 5.0
"""What is added to the mean or to the standard deviation."""

LEVELS: Final = np.arange(0.0, 31.0)
"""Means and standard deviations of the reference."""

RANGES: Final = (255, RANGE_HU)
"""L: 8-bit grey levels, and the range in HU that the paper's other figures have."""

_SIDE: Final = 32


def term(level: NDArray[np.float64], disturbance: float, stabilizer: float) -> NDArray[np.float64]:
    """Return ``(2ab + C) / (a² + b² + C)`` for a level a and b = a + disturbance.

    With C1 and means it is SSIM's luminance, with C2 and standard deviations its contrast.
    """
    other = level + disturbance
    return np.asarray((2 * level * other + stabilizer) / (level**2 + other**2 + stabilizer))


def measured_luminance(level: float, data_range: float) -> float:
    """Return the luminance that the package measures between two constant images."""
    constant = np.full((_SIDE, _SIDE), level, np.float32)
    luminance, _ = ssim_components(
        constant, constant + np.float32(DISTURBANCE), data_range=data_range
    )
    return float(luminance.mean())


def measured_contrast(level: float, data_range: float) -> float:
    """Return the contrast that the package measures where only the deviation differs.

    Both images have one pattern, a chequerboard, so that structure is 1.
    """
    rows, columns = np.indices((_SIDE, _SIDE))
    pattern = np.where((rows + columns) % 2, 1.0, -1.0).astype(np.float32)
    middle = np.float32(data_range / 2)
    _, contrast = ssim_components(
        middle + np.float32(level) * pattern,
        middle + np.float32(level + DISTURBANCE) * pattern,
        data_range=data_range,
    )
    return float(contrast.mean())


def run(settings: LabSettings, observer: Observer) -> Outcome:
    """Run the experiment; nothing in it is random, and the quick version is the full one."""
    del settings
    observer.check()
    closed, measured = {}, {}
    for data_range in RANGES:
        for name, constant, measure in zip(
            ("l", "c"),
            stabilizers(data_range),
            (measured_luminance, measured_contrast),
            strict=True,
        ):
            key = f"{name}, L = {data_range}"
            closed[key] = term(LEVELS, DISTURBANCE, constant)
            measured[key] = np.array([measure(float(level), data_range) for level in LEVELS])
    off = max(float(np.abs(closed[key] - measured[key]).max()) for key in closed)
    ends = {key: (float(1 - one[0]), float(1 - one[-1])) for key, one in closed.items()}
    ratios = {key: first / last for key, (first, last) in ends.items()}
    return Outcome(
        method=(
            "A disturbance of 5 is added to the mean of a window, or to its standard deviation, "
            "and nothing else changes. SSIM's luminance l and contrast c are drawn against the "
            "mean and the standard deviation of the reference, from 0 to 30.",
            "The curves are the formulas of Wang et al. (2004). The data hold beside them what "
            "this package measures on constant images and on chequerboards; the two differ by "
            f"{off:.6f} at most. L sets the constants C1 = (0.01 L)² and C2 = (0.03 L)². "
            "Which L the paper's figure has is not at hand, so both are drawn.",
        ),
        findings=(
            Finding(
                "l under a constant disturbance",
                "Insensitive where intensities are high (abstract; the values of Fig. 2 are not "
                "at hand).",
                _said(ends["l, L = 255"], "mean", 255)
                + " "
                + _said(ends[f"l, L = {RANGE_HU}"], "mean", RANGE_HU),
                _verdict(ratios, "l"),
            ),
            Finding(
                "c under a constant disturbance",
                "Unstable where the variance is low (abstract; values as above).",
                _said(ends["c, L = 255"], "deviation", 255)
                + " "
                + _said(ends[f"c, L = {RANGE_HU}"], "deviation", RANGE_HU),
                _verdict(ratios, "c"),
            ),
        ),
        reading=(
            "One and the same error costs many times as much in the dark as in the bright, and in "
            "flat tissue as in texture. For the eye before a screen that was intended. In HU an "
            "error of 5 is an error of 5, whatever the tissue.",
            "How strong the effect is depends on L. With the wide range of CT the constants are so "
            "large that l and c hardly move over 0 to 30 HU. In turn a disturbance of 5 HU is "
            "then hardly seen at all: what SSIM says of CT depends on which L was given, and a "
            "value without its L says little.",
        ),
        panels=(
            Panel(
                "luminance",
                "l between windows of mean µ and µ + 5. Dots: measured with this package.",
                _panel(closed, measured, "l", "mean of the reference, µ"),
            ),
            Panel(
                "contrast",
                "c between windows of standard deviation σ and σ + 5. Dots: measured.",
                _panel(closed, measured, "c", "standard deviation of the reference, σ"),
            ),
        ),
        tables=(
            Table(
                "",
                "l and c by level: formula, and as measured",
                ["level", *(f"{key}{kind}" for key in closed for kind in ("", ", measured"))],
                [
                    [
                        float(level),
                        *(float(of[key][k]) for key in closed for of in (closed, measured)),
                    ]
                    for k, level in enumerate(LEVELS)
                ],
            ),
        ),
        numbers={
            "loss_ratio_0_to_30": {key: round(ratio, 3) for key, ratio in ratios.items()},
            "largest_difference_from_formula": off,
        },
    )


def _verdict(ratios: dict[str, float], name: str) -> str:
    strong, weak = (ratios[f"{name}, L = {data_range}"] for data_range in RANGES)
    if min(strong, weak) <= 1:
        return "differs"
    return "agrees" if weak > 2 else f"agrees for L = {RANGES[0]}; much weaker for L = {RANGES[1]}"


def _said(ends: tuple[float, float], what: str, data_range: int) -> str:
    first, last = ends
    return (
        f"L = {data_range}: the loss is {first:.3g} at {what} 0 and {last:.2g} at 30, "
        f"{first / last:.3g} times less."
    )


def _panel(
    closed: dict[str, NDArray[np.float64]],
    measured: dict[str, NDArray[np.float64]],
    name: str,
    label: str,
) -> str:
    from ssimrdo.lab.drawing import SERIES, curves, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        chosen = {key.split(", ")[1]: key for key in closed if key.startswith(f"{name},")}
        curves(axes, LEVELS, {range_: closed[key] for range_, key in chosen.items()})
        for key, colour in zip(chosen.values(), SERIES, strict=False):
            axes.plot(LEVELS[::3], measured[key][::3], "o", markersize=3.5, color=colour)
        axes.set(xlabel=label, ylabel=name, ylim=(0, 1.02), xlim=(-0.5, 30.5))

    return svg(draw)


EXPERIMENT: Final = Experiment(
    "terms",
    "Luminance and contrast under one disturbance",
    "Pambrun and Noumeir 2015, Fig. 2",
    run,
)
