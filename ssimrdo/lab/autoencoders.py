"""Auto-encoders trained with MSE, 1 - SSIM and LWSSIM, and what their reconstructions are worth.

References
----------
.. [1] Y. Lu, "The level weighted structural similarity loss: a step away from MSE", AAAI 2019,
   Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.errors import InputError
from ssimrdo.lab.experiment import Experiment, Finding, LabSettings, Outcome, Panel, Table
from ssimrdo.lab.series import real_series
from ssimrdo.metrics import ssim
from ssimrdo.metrics.level_weighted import lwssim
from ssimrdo.observer import Event, Observer
from ssimrdo.phantom import PhantomSettings, phantom_slice_hu

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ssimrdo.lab.networks import Plan

Images = NDArray[np.float32]

WINDOW_HU: Final = (-1000.0, 400.0)
"""Black and white: from air to dense contrast."""

SEEDS: Final = 3

TEST_SHARE: Final = 0.25
"""Of a real series: its last slices, less a gap."""

GAP: Final = 4
"""Slices between those that are trained on and those that test: neighbours look alike."""

_SPAN_MM: Final = 150.0


@dataclass(frozen=True)
class Slices:
    """Images to train on and to test with.

    Parameters
    ----------
    train : ndarray of shape (images, rows, columns), float32
        From 0 to 1.
    test : ndarray of the same form
        Of other phantoms, or of the other end of a series.
    what : str
        Where they come from, in a sentence.
    """

    train: Images
    test: Images
    what: str


def shown(hu: NDArray[Any]) -> Images:
    """Return HU as an image from 0 to 1 in the window."""
    low, high = WINDOW_HU
    return np.asarray(np.clip((hu - low) / (high - low), 0, 1), np.float32)


def phantom_slices(
    size: int, training: int, testing: int, slices: int, observer: Observer
) -> Slices:
    """Return slices of phantoms with different anatomy.

    Parameters
    ----------
    size : int
        Rows and columns.
    training, testing : int
        How many phantoms to train on and to test with.
    slices : int
        Of each, over 150 mm.
    observer : Observer
        Is told how far this is; may cancel.
    """
    made = []
    for seed in range(training + testing):
        observer.check()
        observer.tell(Event(seed, training + testing, "phantoms"))
        settings = PhantomSettings(size=size, seed=100 + seed)
        heights = np.linspace(0, _SPAN_MM, slices) / settings.slice_spacing_mm
        made.append([shown(phantom_slice_hu(round(k), settings)) for k in heights])
    images = np.array(made, np.float32)
    train, test = images[:training], images[training:]
    return Slices(
        train.reshape(-1, size, size),
        test.reshape(-1, size, size),
        f"Training: {slices} slices each of {training} phantoms of different anatomy; testing: as "
        f"many each of {testing} more.",
    )


def ct_slices(folders: list[Path], size: int, observer: Observer) -> Slices:
    """Return slices of real series: the last quarter of each tests.

    Parameters
    ----------
    folders : list of Path
        A series each.
    size : int
        Rows and columns to which slices are shrunk, by means over squares.
    observer : Observer
        May cancel.

    Raises
    ------
    InputError
        If a series cannot be used, its slices are smaller, or all have too few to be divided.
    """
    from ssimrdo.dicom import load_volume

    train, test = [], []
    for done, folder in enumerate(folders):
        observer.check()
        observer.tell(Event(done, len(folders), "series"))
        images = [_shrunk(shown(one), size) for one in load_volume(folder).hu]
        cut = round(len(images) * (1 - TEST_SHARE))
        train += images[: max(cut - GAP, 1)]
        test += images[cut:]
    if not test:
        raise InputError("the series have too few slices", remedy="give series of two or more")
    return Slices(
        np.array(train, np.float32),
        np.array(test, np.float32),
        f"{len(folders)} real series. Training: their first slices; testing: the last quarter of "
        f"each, with {GAP} slices between. Both are of the same patients, so this says nothing of "
        "others.",
    )


def _shrunk(image: Images, size: int) -> Images:
    side = min(image.shape) // size
    if side == 0:
        raise InputError(f"slices are smaller than {size}x{size}", remedy="give larger ones")
    top, left = ((one - side * size) // 2 for one in image.shape)
    part = image[top : top + side * size, left : left + side * size]
    return np.asarray(part.reshape(size, side, size, side).mean(axis=(1, 3)), np.float32)


def centres(images: Images, side: int) -> Images:
    """Return the four quarters about the middle of every image, as squares of a side."""
    rows, columns = images.shape[1:]
    squares = [
        images[:, top : top + side, left : left + side]
        for top in (rows // 2 - side, rows // 2)
        for left in (columns // 2 - side, columns // 2)
    ]
    return np.ascontiguousarray(np.concatenate(squares), np.float32)


def quality(source: Images, reconstructed: Images) -> dict[str, float]:
    """Return the mean SSIM, LWSSIM and MSE over images from 0 to 1."""
    pairs = list(zip(source, reconstructed, strict=True))
    return {
        "SSIM": float(np.mean([ssim(x, y, data_range=1) for x, y in pairs])),
        "MSE": float(np.mean(np.square(source - reconstructed, dtype=np.float64))),
        "LWSSIM": float(np.mean([lwssim(x, y, data_range=1) for x, y in pairs])),
    }


def _plan(quick: bool) -> tuple[Plan, int]:
    """Return how networks are trained, and with how many seeds."""
    from ssimrdo.lab.networks import Plan, device

    if quick:
        return Plan(side=32, channels=8, code=32, steps=100, batch=8, looks=2), 1
    plan = Plan(side=48, channels=16, code=64, steps=600, batch=32, looks=10)
    if device() == "cuda":
        plan = replace(plan, side=96, channels=48, code=128, steps=6000, batch=64)
    return plan, SEEDS


def run(settings: LabSettings, observer: Observer) -> Outcome:
    """Run the experiment."""
    from ssimrdo.lab.networks import KINDS, LOSSES, device, train

    plan, seeds = _plan(settings.quick)
    folders = real_series(settings.ct_folder)
    slices = (
        ct_slices(folders, 2 * plan.side, observer)
        if folders
        else phantom_slices(
            2 * plan.side, *((3, 1, 5) if settings.quick else (14, 4, 10)), observer
        )
    )
    test = centres(slices.test, plan.side)
    # Squares of nothing but air would raise every mean.
    test = test[test.std(axis=(1, 2)) > 0.05]
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    curves: dict[tuple[str, str], list[list[tuple[int, dict[str, float]]]]] = {}
    examples: dict[str, Images] = {}
    total = len(KINDS) * len(LOSSES) * seeds
    for number, (kind, loss, seed) in enumerate(
        (kind, loss, seed) for kind in KINDS for loss in LOSSES for seed in range(seeds)
    ):
        observer.tell(Event(number, total, f"{kind} with {loss}"))
        trained = train(kind, loss, slices.train, test, plan, settings.seed * 1000 + seed, observer)
        results.setdefault((kind, loss), []).append(quality(test, trained.shown))
        curves.setdefault((kind, loss), []).append(
            [(step, quality(test, one)) for step, one in trained.looks]
        )
        if kind == KINDS[0] and seed == 0:
            examples[loss] = trained.shown
    means = {key: _spread(values) for key, values in results.items()}
    return Outcome(
        method=(
            "Three convolutional auto-encoders (plain; variational; and one whose codes are drawn "
            "to a normal distribution by MMD) are trained on squares of slices with three "
            "reconstruction losses: MSE, 1 \N{MINUS SIGN} SSIM, and 1 \N{MINUS SIGN} LWSSIM. "
            "All else is the same. Each loss is divided by what it is for the mean training image, "
            "so that what draws the codes weighs the same beside all three.",
            f"{slices.what} {plan.side}×{plan.side} samples from 0 to 1 "
            f"({WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU), codes of {plan.code} numbers, "
            f"{plan.steps} steps of {plan.batch} images, {seeds} "
            f"{'seed' if seeds == 1 else 'seeds'}, {len(test)} test images, on {device()}.".replace(
                "-", "\N{MINUS SIGN}"
            ),
            "LWSSIM adds luminance to the product of contrast and structure, over windows of "
            "several sizes. Lu's sizes, weights and exponents are not at hand; those of this "
            "package are used. So are other images, other networks and a shorter training.",
        ),
        findings=_findings(means),
        reading=(
            "One expects a loss to be best by its own measure, which is no reason to prefer it. "
            "Where it is not, the network was not trained to the end, and the comparison is one of "
            "how fast the losses train as much as of what they aim at.",
            "What to look at is the price in the other column, and the pictures: does the loss "
            "lose brightness, which in CT is the HU value, or does it lose detail?",
            "A large spread of a loss says that some trainings with it ended badly, such as "
            "with a grey veil over air, where there is no structure to object.",
            "Small networks on few images: the order of losses may change with size, data and "
            "time of training. Spreads are over seeds alone.",
        ),
        panels=(
            *(
                Panel(
                    f"{measure.lower()}-curve",
                    f"{measure} of the test images on the way, plain auto-encoder, mean over "
                    "seeds.",
                    _curves(curves, KINDS[0], measure),
                )
                for measure in ("SSIM", "MSE")
            ),
            Panel(
                "examples",
                "Test squares and their reconstructions by the plain auto-encoder, by the loss "
                "that it was trained with.",
                _examples(test, examples),
            ),
            Panel(
                "trade",
                "Each network's MSE and SSIM on the test images, one mark a seed.",
                _trade(results),
            ),
        ),
        tables=(
            Table(
                "",
                "Reconstructions of the test images: mean over seeds, and standard deviation",
                [
                    "network",
                    "loss",
                    "SSIM",
                    "± SSIM",
                    "MSE",
                    "± MSE",
                    "LWSSIM",
                    "Lu's SSIM",
                    "Lu's MSE",
                ],
                [
                    [
                        kind,
                        loss,
                        *one["SSIM"],
                        *one["MSE"],
                        one["LWSSIM"][0],
                        "not at hand",
                        "not at hand",
                    ]
                    for (kind, loss), one in means.items()
                ],
                digits=3,
                shown=True,
            ),
            Table(
                "curves",
                "On the way, seed by seed",
                ["network", "loss", "seed", "step", "SSIM", "MSE", "LWSSIM"],
                [
                    [kind, loss, seed, step, one["SSIM"], one["MSE"], one["LWSSIM"]]
                    for (kind, loss), by_seed in curves.items()
                    for seed, looks in enumerate(by_seed)
                    for step, one in looks
                ],
            ),
        ),
        numbers={
            kind: {
                loss: {measure: mean for measure, (mean, _) in means[kind, loss].items()}
                for loss in LOSSES
            }
            for kind in KINDS
        },
    )


def _spread(values: list[dict[str, float]]) -> dict[str, tuple[float, float | None]]:
    """Return mean and standard deviation over seeds of every measure."""
    spread = {}
    for measure in values[0]:
        numbers = [one[measure] for one in values]
        deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        spread[measure] = (float(np.mean(numbers)), deviation)
    return spread


Means = Mapping[tuple[str, str], Mapping[str, tuple[float, float | None]]]


def _findings(means: Means) -> tuple[Finding, ...]:
    kinds = list(dict.fromkeys(kind for kind, _ in means))
    losses = list(dict.fromkeys(loss for _, loss in means))
    mse, plain, level = losses

    def value(kind: str, loss: str, measure: str) -> float:
        return means[kind, loss][measure][0]

    def listed(measure: str, digits: int) -> str:
        return "; ".join(
            f"{kind}: "
            + ", ".join(f"{loss} {value(kind, loss, measure):.{digits}f}" for loss in losses)
            for kind in kinds
        )

    def count(test: Callable[[str], bool]) -> int:
        return sum(map(test, kinds))

    above_mse = count(lambda kind: value(kind, level, "SSIM") > value(kind, mse, "SSIM"))
    below_ssim = count(lambda kind: value(kind, level, "MSE") < value(kind, plain, "MSE"))
    better_mse = count(lambda kind: value(kind, level, "MSE") < value(kind, mse, "MSE"))
    own = {
        mse: count(
            lambda kind: value(kind, mse, "MSE") <= min(value(kind, x, "MSE") for x in losses)
        ),
        plain: count(
            lambda kind: value(kind, plain, "SSIM") >= max(value(kind, x, "SSIM") for x in losses)
        ),
        level: count(
            lambda kind: (
                value(kind, level, "LWSSIM") >= max(value(kind, x, "LWSSIM") for x in losses)
            )
        ),
    }
    return (
        Finding(
            "SSIM of the reconstructions",
            "LWSSIM outperforms MSE and plain SSIM as a loss (abstract; Table 1 is not at hand).",
            f"{listed('SSIM', 3)}. LWSSIM is above MSE for {above_mse} of {len(kinds)} networks.",
            _verdict(above_mse, len(kinds)),
        ),
        Finding(
            "MSE of the reconstructions",
            "As above.",
            f"{listed('MSE', 4)}. LWSSIM is below MSE as a loss for {better_mse} of {len(kinds)} "
            "networks.",
            _verdict(better_mse, len(kinds)),
        ),
        Finding(
            "What SSIM as a loss neglects",
            "SSIM as a loss fails where LWSSIM does not (abstract); luminance is what it neglects.",
            f"The MSE of LWSSIM is below that of 1 \N{MINUS SIGN} SSIM for {below_ssim} of "
            f"{len(kinds)} networks.",
            _verdict(below_ssim, len(kinds)),
        ),
        Finding(
            "Each loss by its own measure",
            "Not at hand.",
            "Best by its own measure: "
            + ", ".join(f"{loss} for {times} of {len(kinds)}" for loss, times in own.items())
            + " networks.",
            "as one expects" if min(own.values()) == len(kinds) else "not trained to the end",
        ),
    )


def _verdict(count: int, total: int) -> str:
    return "agrees" if count == total else "differs" if count == 0 else "agrees in part"


def _curves(
    curves: Mapping[tuple[str, str], list[list[tuple[int, dict[str, float]]]]],
    kind: str,
    measure: str,
) -> str:
    from ssimrdo.lab import drawing

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        named, steps = {}, []
        for (network, loss), by_seed in curves.items():
            if network == kind:
                steps = [step for step, _ in by_seed[0]]
                named[loss] = np.mean([[one[measure] for _, one in run] for run in by_seed], axis=0)
        drawing.curves(axes, steps, named, marker="o", markersize=3)
        axes.set(xlabel="step", ylabel=measure)
        if measure == "MSE":
            axes.set_yscale("log")
            drawing.plain_ticks(axes.yaxis)

    return drawing.svg(draw)


def _examples(test: Images, examples: Mapping[str, Images]) -> str:
    from ssimrdo.lab.drawing import picture, svg

    chosen = np.linspace(0, len(test) - 1, 6).round().astype(int)[1:5]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(chosen), 1 + len(examples))
        for row, number in enumerate(chosen):
            named = {"source": test, **examples}
            for column, (name, images) in enumerate(named.items()):
                title = name if row == 0 else ""
                picture(axes[row, column], images[number], title, cmap="gray", vmin=0, vmax=1)

    return svg(draw, 4.9)


def _trade(results: Mapping[tuple[str, str], list[dict[str, float]]]) -> str:
    from ssimrdo.lab.drawing import SERIES, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        kinds = list(dict.fromkeys(kind for kind, _ in results))
        losses = list(dict.fromkeys(loss for _, loss in results))
        for (kind, loss), values in results.items():
            axes.scatter(
                [one["MSE"] for one in values],
                [one["SSIM"] for one in values],
                marker="os^"[kinds.index(kind)],
                s=28,
                color=SERIES[losses.index(loss)],
                alpha=0.8,
                linewidths=0,
                label=f"{kind}, {loss}" if len(values) else None,
            )
        axes.set(xlabel="MSE", ylabel="SSIM")
        figure.legend(loc="outside lower center", ncols=3, handletextpad=0.1, columnspacing=0.8)

    return svg(draw, 4.1)


EXPERIMENT: Final = Experiment(
    "autoencoders",
    "Auto-encoders trained with three losses",
    "Lu 2019, Table 1",
    run,
    needs=("torch",),
    uses_ct=True,
)
