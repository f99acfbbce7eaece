"""SSIM of a grating in a water cylinder under identical noise, by hardness and contrast.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015, Figs. 1 and 3.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.lab.experiment import Experiment, Finding, LabSettings, Outcome, Panel, Table
from ssimrdo.lab.images import AIR_HU, RANGE_HU, Image, thorax
from ssimrdo.metrics import ssim_map
from ssimrdo.metrics.kernels import RADIUS
from ssimrdo.observer import Event, Observer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIO: Final = 24.0
"""Of the JPEG 2000 that the noise is taken from, to 12 bits a sample."""

BITS: Final = 12

HARDNESS: Final = tuple(round(0.3 * k, 1) for k in range(1, 10))
"""Standard deviation of the Gaussian that blurs the bars, in samples: small is hard."""

CONTRASTS_HU: Final = tuple(range(0, 1001, 100))
"""Of the bars above water."""

FINE: Final = 4
"""Width in samples of the fine grating's bars, 2.8 mm of a chest CT."""

WIDE: Final = 12
"""Width of the wide grating's bars: wider than an SSIM window reaches to either side."""

BARS: Final = (FINE, WIDE)

SPAN: Final = 108
"""Side of both gratings in samples, first bar to last."""

_WATER: Final = -AIR_HU


def cylinder(size: int, bar: int, hardness: float, contrast_hu: float) -> Image:
    """Return a water cylinder in air with bars at its centre, in HU from air.

    Edges are those of a Gaussian point spread: steps turn into error functions.

    Parameters
    ----------
    size : int
        Rows and columns.
    bar : int
        Width of a bar, and of the gap to the next, in samples.
    hardness : float
        Standard deviation of the bars' edges in samples.
    contrast_hu : float
        Of the bars above water.
    """
    from scipy.special import erf

    place = np.arange(size) - (size - 1) / 2
    radius = np.hypot(place[:, None], place)
    image = _WATER * 0.5 * (1 - erf((radius - 0.42 * size) / (0.7 * np.sqrt(2))))

    def box(left: float, right: float) -> NDArray[np.float64]:
        spread = hardness * np.sqrt(2)
        return np.asarray((erf((place - left) / spread) - erf((place - right) / spread)) / 2)

    half = SPAN / 2
    lefts = range(0, SPAN, 2 * bar)
    bars = sum((box(left - half, left - half + bar) for left in lefts), start=np.zeros(size))
    return np.asarray(image + contrast_hu * np.outer(box(-half, half), bars), np.float32)


def region(size: int) -> tuple[slice, slice]:
    """Return the square around the grating."""
    half = SPAN // 2 + 6
    part = slice(size // 2 - half, size // 2 + half)
    return part, part


def jpeg2000_noise(size: int, seed: int) -> Image:
    """Return what JPEG 2000 at 24:1 changes in a slice of the phantom, in HU.

    The irreversible 9-7 transform of OpenJPEG, one tile and one layer, of the slice with its
    scanner's noise, at 12 bits a sample from air.
    """
    from openjpeg.utils import decode, encode_array

    source = np.rint(thorax(size, seed, noise=True)).clip(0, 2**BITS - 1).astype(np.uint16)
    coded = encode_array(source, BITS, photometric_interpretation=2, compression_ratios=[RATIO])
    shown = decode(io.BytesIO(coded))
    return np.asarray(shown.astype(np.float32) - source)


def mean_in(values: NDArray[np.float32], part: tuple[slice, slice]) -> float:
    """Return the mean of a map over the windows whose centres lie in a part of the image."""
    inside = tuple(slice(one.start - RADIUS, one.stop - RADIUS) for one in part)
    return float(values[inside].mean(dtype=np.float64))


def run(settings: LabSettings, observer: Observer) -> Outcome:
    """Run the experiment."""
    size = 192 if settings.quick else 512
    hardnesses = HARDNESS[::4] if settings.quick else HARDNESS
    contrasts = CONTRASTS_HU[::5] if settings.quick else CONTRASTS_HU
    noise = jpeg2000_noise(size, settings.seed)
    part = region(size)
    shape = (len(BARS), len(contrasts), len(hardnesses))
    whole, inside = np.empty(shape), np.empty(shape)
    for done, (bar, row, column) in enumerate(np.ndindex(shape)):
        observer.check()
        observer.tell(Event(done, whole.size, "images"))
        image = cylinder(size, BARS[bar], hardnesses[column], contrasts[row])
        values = ssim_map(image, image + noise, data_range=RANGE_HU)
        whole[bar, row, column] = values.mean(dtype=np.float64)
        inside[bar, row, column] = mean_in(values, part)
    rms_inside, rms_whole = _rms(noise[part]), _rms(noise)
    lost = {
        bar: {"no bars": 1 - one[0, 0], "hardest": 1 - one[-1, 0], "softest": 1 - one[-1, -1]}
        for bar, one in zip(BARS, inside, strict=True)
    }
    fine, wide = (lost[bar] for bar in BARS)
    return Outcome(
        method=(
            "A cylinder of water (0 HU) in air (\N{MINUS SIGN}1000 HU) holds a grating of bars, "
            f"{FINE} samples wide, or in a second series {WIDE}. Its contrast goes from 0 to 1000 "
            "HU, and the standard deviation of its edges, the hardness σ, from 0.3 to 2.7 samples.",
            "To every image the very same noise is added: what JPEG 2000 at 24:1 (of 12 bits) "
            "changes in a slice of the synthetic thorax. So every image has the same squared "
            f"error, {rms_inside:.1f} HU RMS around the grating and {rms_whole:.1f} HU over the "
            "image. SSIM is taken with L = 2500 from air, over the image and over the square "
            "around the grating.",
            "Size and bars of the paper's cylinder, and the image that its noise came from, are "
            "not at hand, so curves are to be compared in direction and not in height.",
        ),
        findings=(
            Finding(
                "Edges of high contrast",
                "Distortion is underestimated near hard edges (abstract; values of Fig. 3 are not "
                "at hand).",
                f"Around the fine grating 1 \N{MINUS SIGN} SSIM is {fine['no bars']:.4f} without "
                f"bars and {fine['hardest']:.4f} with hard bars of {contrasts[-1]} HU: "
                f"{fine['no bars'] / fine['hardest']:.1f} times less for the same noise. For wide "
                f"bars it is {wide['no bars'] / wide['hardest']:.1f} times less.",
                _if(min(one["no bars"] / one["hardest"] for one in lost.values()) > 1),
            ),
            Finding(
                "Hardness",
                "Hard edges are named (abstract); how the loss goes with hardness in Fig. 3 is not "
                "at hand.",
                f"From hardest to softest the loss goes from {fine['hardest']:.4f} to "
                f"{fine['softest']:.4f} for fine bars, whose contrast the blur takes away, and "
                f"from {wide['hardest']:.4f} to {wide['softest']:.4f} for wide ones, where a soft "
                "edge reaches more windows than a hard one.",
                f"fine bars: {_direction(fine)}; wide bars: {_direction(wide)}",
            ),
            Finding(
                "Uniform pooling",
                "Every part of the image counts alike (abstract).",
                f"The square is {_share(part, size):.1%} of the image. What "
                f"happens there moves the loss of the whole image from {1 - whole[0, 0, 0]:.4f} to "
                f"{1 - whole[0, -1, 0]:.4f} (fine bars, none to hardest).",
                _if(whole[0, -1, 0] - whole[0, 0, 0] < inside[0, -1, 0] - inside[0, 0, 0]),
            ),
        ),
        reading=(
            "Where bone, contrast agent or lung meet soft tissue, SSIM forgives noise that it "
            "would count in the liver. A bound on mean SSIM lets a coder put more noise exactly "
            "where edges are; the experiment on blocks shows how much.",
            "It is the variance in the window that forgives, not hardness as such: what counts is "
            "contrast, and how many windows see it.",
            "That edges mask noise is true of the eye. But masking depends on the window that the "
            "image is read in: in a narrow one the side of an edge is a flat field.",
        ),
        panels=(
            Panel(
                "phantom",
                "The fine grating at low and high contrast, hard and soft, with the noise. "
                "Window 500/1000 HU.",
                _pictures(size, noise, part, hardnesses, contrasts),
            ),
            Panel(
                "fine",
                "SSIM around the fine grating. The noise is the same at every point.",
                _panel(inside[0], hardnesses, contrasts, "SSIM in the square"),
            ),
            Panel(
                "wide",
                "SSIM around the wide grating, likewise.",
                _panel(inside[1], hardnesses, contrasts, "SSIM in the square"),
            ),
            Panel(
                "image",
                "SSIM over the whole image with the fine grating; mind the scale. Air and water "
                "decide it.",
                _panel(whole[0], hardnesses, contrasts, "SSIM over the image"),
            ),
        ),
        tables=(
            Table(
                "",
                "SSIM by bar, contrast and hardness",
                [
                    "bar in samples",
                    "contrast in HU",
                    "σ in samples",
                    "SSIM over the image",
                    "SSIM in the square",
                ],
                [
                    [
                        BARS[b],
                        contrasts[r],
                        hardnesses[c],
                        float(whole[b, r, c]),
                        float(inside[b, r, c]),
                    ]
                    for b, r, c in np.ndindex(shape)
                ],
                digits=5,
            ),
        ),
        numbers={
            "noise_rms_hu": {"square": rms_inside, "image": rms_whole},
            "loss_in_square": {f"bars of {bar}": one for bar, one in lost.items()},
            "loss_over_image": {"no bars": 1 - whole[0, 0, 0], "hardest": 1 - whole[0, -1, 0]},
        },
    )


def _direction(lost: dict[str, float]) -> str:
    return "as one expects" if lost["softest"] > lost["hardest"] else "the other way"


def _if(agrees: object) -> str:
    return "agrees" if agrees else "differs"


def _rms(noise: Image) -> float:
    return float(np.sqrt(np.mean(np.square(noise, dtype=np.float64))))


def _share(part: tuple[slice, slice], size: int) -> float:
    return float((part[0].stop - part[0].start) ** 2 / size**2)


def _pictures(
    size: int,
    noise: Image,
    part: tuple[slice, slice],
    hardnesses: tuple[float, ...],
    contrasts: tuple[int, ...],
) -> str:
    from ssimrdo.lab.drawing import picture, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 2)
        middle = contrasts[len(contrasts) // 3]
        for row, contrast in enumerate((middle, contrasts[-1])):
            for column, hardness in enumerate((hardnesses[0], hardnesses[-1])):
                image = cylinder(size, FINE, hardness, contrast)[part] + noise[part]
                title = f"{contrast} HU, σ = {hardness}"
                picture(axes[row, column], image, title, cmap="gray", vmin=1000, vmax=2000)

    return svg(draw, 4.6)


def _panel(
    values: NDArray[np.float64],
    hardnesses: tuple[float, ...],
    contrasts: tuple[int, ...],
    label: str,
) -> str:
    from ssimrdo.lab.drawing import curves, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows = range(0, len(contrasts), max((len(contrasts) - 1) // 5, 1))
        curves(axes, hardnesses, {f"{contrasts[row]} HU": values[row] for row in rows})
        axes.set(xlabel="hardness σ in samples, hard to soft", ylabel=label)
        low, high = axes.get_ylim()
        # Room for the legend.
        axes.set_ylim(low - 0.3 * (high - low), high)
        axes.legend(ncols=3, loc="lower left", handlelength=2.4, columnspacing=1)

    return svg(draw)


EXPERIMENT: Final = Experiment(
    "grating",
    "A grating under identical noise",
    "Pambrun and Noumeir 2015, Figs. 1 and 3",
    run,
)
