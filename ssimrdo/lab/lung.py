"""SSIM of a lung alone and inside a thorax, with identical noise.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.lab.experiment import Experiment, Finding, LabSettings, Outcome, Panel, Table
from ssimrdo.lab.images import AIR_HU, RANGE_HU, Image, pair_of, thorax, white_noise
from ssimrdo.metrics.kernels import RADIUS
from ssimrdo.observer import Observer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANCE: Final = 20.0
"""Of the noise, in the square of whatever L is in."""

PAPER: Final = (0.9395, 0.9628)
"""SSIM of the region, lung alone and inside the thorax, in the paper."""

GREY_LEVELS: Final = 255
"""L of the second reading: 8-bit grey levels for 2500 HU."""

_LUNG_HU: Final = (-950.0, -500.0)

_TERMS: Final = ("l", "c", "s")


def lung_mask(image: Image) -> NDArray[np.bool_]:
    """Return the lungs with all that they enclose, an ndarray of bool of the image's shape.

    Parameters
    ----------
    image : ndarray of shape (rows, columns), float32
        A slice of a thorax in HU from air.
    """
    from scipy import ndimage

    low, high = (hu - AIR_HU for hu in _LUNG_HU)
    body = ndimage.binary_fill_holes(_components(image > high, 1))
    # The borders of airways lie in the range of lungs too.
    lungs = _components((image > low) & (image < high) & body, 1 / 4)
    closed = ndimage.binary_closing(lungs, iterations=2)
    return np.asarray(ndimage.binary_fill_holes(closed), np.bool_)


def _components(mask: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Return the components of a mask that have a share of the largest one's size at least."""
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    return np.isin(parts, 1 + np.flatnonzero(sizes >= share * sizes.max()))


def with_rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask that reaches as far over its border as an SSIM window does."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask, iterations=RADIUS), np.bool_)


def alone(image: Image, mask: NDArray[np.bool_]) -> Image:
    """Return the lungs in air: outside the mask all is 0."""
    return np.where(mask, image, np.float32(0))


def run(settings: LabSettings, observer: Observer) -> Outcome:
    """Run the experiment."""
    size = 192 if settings.quick else 512
    image = thorax(size, settings.seed)
    mask = lung_mask(image)
    inner, rim = (_windows(one) for one in (mask, with_rim(mask)))
    scenes = {"alone": alone(image, mask), "in the thorax": image}
    noise = white_noise(image.shape, VARIANCE, settings.seed)
    rows: list[list[str | float]] = []
    maps: dict[str, dict[str, NDArray[Any]]] = {}
    found: dict[tuple[float, str], dict[str, float]] = {}
    for data_range in (RANGE_HU, GREY_LEVELS):
        scale = data_range / RANGE_HU
        for name, scene in scenes.items():
            observer.check()
            reference = scene * np.float32(scale)
            pair = pair_of(reference, reference + noise, data_range)
            luminance, contrast_structure = pair.ssim_components
            terms = (luminance, *pair.contrast_and_structure)
            values = dict(zip(_TERMS, terms, strict=True))
            values["SSIM"] = luminance * contrast_structure
            found[data_range, name] = {
                **{key: float(one[inner].mean(dtype=np.float64)) for key, one in values.items()},
                "with rim": float(values["SSIM"][rim].mean(dtype=np.float64)),
            }
            rows.append([data_range, name, *found[data_range, name].values()])
            if data_range == GREY_LEVELS:
                maps[name] = values
    pairs = {
        data_range: tuple(found[data_range, name]["SSIM"] for name in scenes)
        for data_range in (RANGE_HU, GREY_LEVELS)
    }
    gain = {key: (1 - a) / (1 - b) for key, (a, b) in {**pairs, 0: PAPER}.items()}
    rims = tuple(found[GREY_LEVELS, name]["with rim"] for name in scenes)
    narrow = found[GREY_LEVELS, "alone"], found[GREY_LEVELS, "in the thorax"]
    border = _at_border(mask, maps)
    return Outcome(
        method=(
            "The lungs of a slice of the synthetic thorax, without scanner noise, are shown in "
            "air and in place. The very same white noise of variance 20 is added to both, and "
            "SSIM is averaged over the windows whose centres lie in the lungs. Nothing in the "
            "lungs differs between the two images.",
            "In what the variance of 20 is measured in the paper is not at hand, nor is its "
            "dynamic range in this figure. So there are two readings: 20 HU² with L = 2500, and "
            "20 squared grey levels of 255 that stand for 2500 HU.",
        ),
        findings=(
            Finding(
                "SSIM of one region, alone and in its surroundings",
                f"{PAPER[0]} → {PAPER[1]}: the loss falls by {gain[0]:.2f} times.",
                f"20 squared grey levels, L = 255: {_arrow(pairs[GREY_LEVELS])}, the loss falls "
                f"by {gain[GREY_LEVELS]:.2f} times. 20 HU², L = 2500: {_arrow(pairs[RANGE_HU])}, "
                f"by {gain[RANGE_HU]:.2f} times.",
                "agrees in direction, smaller" if 1 < min(gain.values()) < gain[0] else "differs",
            ),
            Finding(
                "What counts as the region",
                "Not at hand: how the region was drawn.",
                f"With a rim of {RADIUS} samples around the lungs, L = 255: {_arrow(rims)}, the "
                f"loss falls by {(1 - rims[0]) / (1 - rims[1]):.2f} times.",
                "the rim decides how large the effect is"
                if (1 - rims[0]) / (1 - rims[1]) > 1.05 * gain[GREY_LEVELS]
                else "the rim matters little",
            ),
            Finding(
                "Where it comes from",
                "Hard edges around the region (abstract).",
                "Means of l, c and s over the lungs for L = 255: "
                + "; ".join(f"{key} {narrow[0][key]:.4f} → {narrow[1][key]:.4f}" for key in _TERMS)
                + f". {border:.0%} of the change lies, as it must, in windows that see across the "
                "border.",
                "agrees" if border > 0.9 else "differs",
            ),
        ),
        reading=(
            "A region's SSIM depends on what lies around the region. Two crops, two fields of "
            "view or two ways of masking the same data cannot be compared by it to the second "
            "digit.",
            "How much it changes depends on the length of the border, on what is behind it, and on "
            "L: this lung has other proportions than the paper's, so the two pairs of numbers "
            "need not be equal.",
        ),
        panels=(
            Panel(
                "images",
                "The lungs in air and in the thorax with the same noise (variance 20 of 255 grey "
                "levels). Window \N{MINUS SIGN}300/1400 HU.",
                _pictures(scenes, noise),
            ),
            Panel(
                "ssim",
                "Where SSIM differs: in the thorax minus alone, inside the lungs (L = 255).",
                _difference(maps, inner),
            ),
            Panel(
                "maps",
                "l, c and s for L = 255, alone (top) and in the thorax (bottom); dark is loss.",
                _maps(maps, inner),
                wide=True,
            ),
        ),
        tables=(
            Table(
                "",
                "Means over the lungs",
                ["L", "lungs", *_TERMS, "SSIM", f"SSIM with a rim of {RADIUS}"],
                rows,
                digits=5,
                shown=True,
            ),
        ),
        numbers={
            "ssim": {f"L = {key}": list(pair) for key, pair in pairs.items()},
            "loss_ratio": {f"L = {key}": gain[key] for key in pairs},
            "loss_ratio_paper": gain[0],
            "ssim_with_rim": list(rims),
            "share_of_change_at_border": border,
        },
    )


def _windows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of a mask where windows lie inside the image."""
    return mask[RADIUS:-RADIUS, RADIUS:-RADIUS]


def _arrow(pair: tuple[float, ...]) -> str:
    return " → ".join(f"{value:.4f}" for value in pair)


def _at_border(mask: NDArray[np.bool_], maps: dict[str, dict[str, NDArray[Any]]]) -> float:
    """Return the share of SSIM's change that windows have which see beyond the mask."""
    from scipy import ndimage

    core = ndimage.binary_erosion(mask, np.ones((2 * RADIUS + 1,) * 2, np.bool_))
    inner, deep = map(_windows, (mask, core))
    change = maps["in the thorax"]["SSIM"] - maps["alone"]["SSIM"]
    return float(1 - change[deep].sum() / change[inner].sum())


def _box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return tuple(  # type: ignore[return-value]
        slice(max(one[0] - margin, 0), one[-1] + margin) for one in (rows, columns)
    )


def _pictures(scenes: dict[str, Image], noise: Image) -> str:
    from ssimrdo.lab.drawing import picture, svg

    def draw(figure: Figure) -> None:
        levels = RANGE_HU / GREY_LEVELS
        for axes, (name, scene) in zip(figure.subplots(1, 2), scenes.items(), strict=True):
            shown = scene + np.float32(levels) * noise
            picture(axes, shown, name, cmap="gray", vmin=0, vmax=1400)

    return svg(draw, 2.5)


def _difference(maps: dict[str, dict[str, NDArray[Any]]], inner: NDArray[np.bool_]) -> str:
    from ssimrdo.lab.drawing import picture, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        change = maps["in the thorax"]["SSIM"] - maps["alone"]["SSIM"]
        shown = np.where(inner, change, np.nan)[_box(inner, 4)]
        reach = float(np.nanquantile(np.abs(shown), 0.995))
        drawn = picture(axes, shown, cmap="PuOr_r", vmin=-reach, vmax=reach)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label="change of SSIM")

    return svg(draw, 2.8)


def _maps(maps: dict[str, dict[str, NDArray[Any]]], inner: NDArray[np.bool_]) -> str:
    from matplotlib.ticker import MaxNLocator

    from ssimrdo.lab.drawing import picture, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 3)
        part = _box(inner, 4)
        for column, key in enumerate(_TERMS):
            low = min(float(np.quantile(one[key][inner], 0.01)) for one in maps.values())
            low = min(low, 0.999)
            for row, (name, one) in enumerate(maps.items()):
                shown = np.where(inner, one[key], np.nan)[part]
                title = f"{key}, {name}"
                drawn = picture(axes[row, column], shown, title, cmap="magma", vmin=low, vmax=1)
            figure.colorbar(
                drawn,
                ax=axes[:, column],
                orientation="horizontal",
                shrink=0.9,
                aspect=28,
                ticks=MaxNLocator(3),
            )

    return svg(draw, 4.4, 1.5)


EXPERIMENT: Final = Experiment(
    "lung",
    "A lung alone and inside a thorax",
    "Pambrun and Noumeir 2015",
    run,
)
