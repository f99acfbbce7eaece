"""What each index makes of the defects of SSIM: which repair helps where.

Each defect is a question of the same kind: a disturbance in one place gives the index some value;
how strong may it be in another place for the same value? The answer in decibels of squared error
does not depend on the scale of an index, so all can be compared. 0 dB is what squared error says.

References
----------
.. [1] J.-F. Pambrun and R. Noumeir, "Limitations of the SSIM quality metric in the context of
   diagnostic imaging", IEEE ICIP 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.lab.blocks import block_classes, spread
from ssimrdo.lab.experiment import Experiment, Finding, LabSettings, Outcome, Panel, Table
from ssimrdo.lab.grating import FINE, cylinder
from ssimrdo.lab.images import RANGE_HU, Image, loss, pair_of, thorax, white_noise
from ssimrdo.lab.lung import alone, lung_mask
from ssimrdo.metrics import QualityIndex
from ssimrdo.observer import Event, Observer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REACH_DB: Final = 30.0
"""How far above and below the first strength the second one is looked for."""

LEAST_LOSS: Final = 3e-6
"""Below it, in single precision, an index sees nothing."""

HELPED_DB: Final = 3.0
"""Within so many decibels SSIM is said to treat both places alike: a factor of two."""

PLAIN: Final = ("psnr", "mse", "max_error")
"""Indices of plain error: indifferent to place by construction."""

PARTS: Final = (
    "ssim_luminance",
    "ssim_contrast",
    "ssim_structure",
    "noise_power",
    "noise_frequency",
    "edge_sharpness",
)
"""Indices of one aspect alone, which nobody would take for a repair of SSIM."""

DARK_HU, SOFT_HU = 140.0, 1050.0
"""Mean of lung and of soft tissue, from air."""


@dataclass(frozen=True)
class Scene:
    """An image and what disturbs it.

    Parameters
    ----------
    image : ndarray of shape (rows, columns), float32
        Reference in HU from air.
    disturbance : ndarray of the same shape, float32
        What is added, times a strength.
    """

    image: Image
    disturbance: NDArray[np.float32]

    def loss(self, index: QualityIndex, strength: float) -> float:
        """Return the loss of an index at a strength of the disturbance."""
        shown = self.image + np.float32(strength) * self.disturbance
        return loss(index, pair_of(self.image, shown, RANGE_HU))


@dataclass(frozen=True)
class Defect:
    """One defect of SSIM as two scenes with a disturbance of one squared error.

    Parameters
    ----------
    key : str
        Name in JSON.
    short : str
        Heading of a narrow column: the second place.
    title : str
        What is compared.
    paper : str
        What is known of the paper on it.
    first, second : Scene
        Where the disturbance counts much, and where it counts less by SSIM.
    """

    key: str
    short: str
    title: str
    paper: str
    first: Scene
    second: Scene


def excess_db(index: QualityIndex, defect: Defect) -> float:
    """Return by how much stronger the second disturbance may be for the first one's value.

    Returns
    -------
    float
        Decibels of squared error; infinite, of either sign, beyond :data:`REACH_DB`; NaN if the
        index does not see the first disturbance.
    """
    from scipy.optimize import brentq

    target = defect.first.loss(index, 1.0)
    if target < (0 if index.unit == "dB" else LEAST_LOSS):
        return math.nan

    def above(decibels: float) -> float:
        return defect.second.loss(index, 10 ** (decibels / 20)) - target

    if above(REACH_DB) < 0:
        return math.inf
    if above(-REACH_DB) > 0:
        return -math.inf
    return float(brentq(above, -REACH_DB, REACH_DB, xtol=0.05))


def defects(quick: bool, seed: int) -> tuple[Defect, ...]:
    """Return all defects.

    Parameters
    ----------
    quick : bool
        Smaller images.
    seed : int
        Of phantom and noise.
    """
    return (*_in_patches(128 if quick else 192, seed), *_in_thorax(256 if quick else 384, seed))


def _in_patches(side: int, seed: int) -> tuple[Defect, ...]:
    grain = white_noise((side, side), 15.0**2, seed)
    noise = white_noise((side, side), 10.0**2, seed + 1)
    flat = np.full((side, side), SOFT_HU, np.float32) + grain * np.float32(2 / 15)
    shading = np.outer(*[np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2] * 2)
    offset = np.asarray(20.0 * shading, np.float32)
    textured = np.float32(SOFT_HU) + _smooth_texture(side, seed)
    # Twelve periods from the middle of the grating, over and over.
    part = slice(256 - 12 * FINE, 256 + 12 * FINE)
    bars = np.tile(cylinder(512, FINE, 0.3, 1000.0)[part, part], (2, 2))[:side, :side]
    return (
        Defect(
            "brightness",
            "bright",
            "shading: in soft tissue, against lung",
            "Insensitive where intensities are high (abstract).",
            Scene(np.float32(DARK_HU) + grain, offset),
            Scene(np.float32(SOFT_HU) + grain, offset),
        ),
        Defect(
            "texture",
            "texture",
            "noise: in texture, against a flat field",
            "Unstable where the variance is low (abstract).",
            Scene(flat, noise),
            Scene(textured, noise),
        ),
        Defect(
            "edges",
            "grating",
            "noise: on a grating, against a flat field",
            "Distortion is underestimated near hard edges (abstract).",
            Scene(flat, noise),
            Scene(bars, noise),
        ),
    )


def _smooth_texture(side: int, seed: int) -> Image:
    from scipy.ndimage import gaussian_filter

    texture = gaussian_filter(white_noise((side, side), 1.0, seed + 2), 1.0, mode="wrap")
    return np.asarray(texture * (100.0 / texture.std()), np.float32)


def _in_thorax(size: int, seed: int) -> tuple[Defect, ...]:
    image = thorax(size, seed)
    mask = lung_mask(image)
    noise = white_noise(image.shape, 20.0**2, seed + 3)
    in_lung = np.where(mask, noise, np.float32(0))
    classes = block_classes(image)
    first, second = _as_many(classes["flat"], classes["edge"], seed)
    # One small part in soft tissue has all the energy that else is spread over the image.
    middle = _flattest(classes["flat"])
    local = np.zeros(classes["flat"].shape, np.bool_)
    local[middle] = True
    everywhere = 5.0
    concentrated = everywhere * math.sqrt(local.size)
    return (
        Defect(
            "surroundings",
            "thorax",
            "noise in the lungs: in the thorax, against alone",
            "SSIM 0.9395 → 0.9628 for one noise, which is another number than this one.",
            Scene(alone(image, mask), in_lung),
            Scene(image, in_lung),
        ),
        Defect(
            "blocks",
            "edges",
            "noise: in blocks with an edge, against flat ones",
            "More noise at edges for one SSIM (Fig. 4; numbers not at hand).",
            Scene(image, _in_blocks(noise, first, 20.0)),
            Scene(image, _in_blocks(noise, second, 20.0)),
        ),
        Defect(
            "pooling",
            "one\nblock",
            "noise: in one block, against all over",
            "Uniform pooling (abstract).",
            Scene(image, _in_blocks(noise, np.ones_like(local), everywhere)),
            Scene(image, _in_blocks(noise, local, concentrated)),
        ),
    )


def _in_blocks(
    noise: NDArray[np.float32], blocks: NDArray[np.bool_], rms: float
) -> NDArray[np.float32]:
    """Return noise in some blocks alone, with an exact RMS in them."""
    inside = spread(blocks.astype(np.float64)) > 0
    factor = rms / math.sqrt(float(np.mean(np.square(noise[inside], dtype=np.float64))))
    return np.where(inside, noise * np.float32(factor), np.float32(0))


def _as_many(
    first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return as many blocks of either class, drawn at random."""
    rng = np.random.default_rng([seed, 15])
    count = min(int(first.sum()), int(second.sum()))
    chosen = []
    for one in (first, second):
        found = np.zeros(one.size, np.bool_)
        found[rng.choice(np.flatnonzero(one), count, replace=False)] = True
        chosen.append(found.reshape(one.shape))
    return chosen[0], chosen[1]


def _flattest(flat: NDArray[np.bool_]) -> tuple[int, int]:
    """Return a flat block with as many flat ones around it as there are."""
    from scipy.ndimage import uniform_filter

    near = np.where(flat, uniform_filter(flat.astype(np.float64), 3), -1)
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    return int(row), int(column)


def run(settings: LabSettings, observer: Observer) -> Outcome:
    """Run the experiment."""
    known = defects(settings.quick, settings.seed)
    indices = [metrics.get(name) for name in metrics.names()]
    table = np.empty((len(indices), len(known)))
    for row, index in enumerate(indices):
        for column, defect in enumerate(known):
            observer.check()
            observer.tell(Event(row * len(known) + column, table.size, index.title))
            table[row, column] = excess_db(index, defect)
    by_name = {index.name: table[row] for row, index in enumerate(indices)}
    ssim = by_name["ssim"]
    repaired = [index for index in indices if index.name not in ("ssim", *PLAIN, *PARTS)]
    return Outcome(
        method=(
            "Each defect that the first four experiments show is put as one question to every "
            "index of this package: a disturbance in one place gives some value; how much "
            "stronger may it be in another place for the same value? The answer, in decibels of "
            "squared error, does not depend on the scale of an index. Above 0 the second place is "
            "forgiven; below 0 it is punished; 0 is what squared error says.",
            "Shading: a smooth hump of 20 HU, as of a beam-hardening artefact, on a field with "
            "grain of 15 HU, at 140 HU and at 1050 HU above air. Noise: 10 HU RMS in a flat field, "
            "against smooth texture of 100 HU RMS and against the hard grating of 1000 HU. In the "
            "thorax: noise of 20 HU RMS in the lungs, alone and in place; in flat blocks and in as "
            "many blocks with an edge; of 5 HU RMS all over the image and with the same energy in "
            "one flat block. L = 2500 from air.",
            f"More than {REACH_DB:.0f} dB are not looked for. “Blind” is an index that does not "
            "see the first disturbance at all.",
        ),
        findings=tuple(
            _finding(defect, float(ssim[column]), repaired, by_name, column)
            for column, defect in enumerate(known)
        ),
        reading=(
            "0 dB everywhere is no virtue: squared error has it, and it is what these indices "
            "were made to do better than. What a reader needs lies somewhere between, and no "
            "number on this page says where.",
            "Read a row to know what an index hides. An index that forgives edges is fit for "
            "asking whether noise shows beside bone, and unfit for asking whether a fracture "
            "does.",
            _on_edges(by_name),
            "Pooling by percentiles or the minimum answers another question: how bad the worst "
            "place is. It needs a mean beside it.",
        ),
        panels=(
            Panel(
                "excess",
                "Decibels of squared error by which disturbances may be stronger in the column's "
                "place. Orange: forgiven. Violet: punished. No colour: blind.",
                _heat(table, indices, known),
            ),
            Panel(
                "scenes",
                "The two places of each column, disturbed alike by squared error: first the one "
                "that sets the value, then that of the column. Windows differ.",
                _scenes(known),
            ),
        ),
        tables=(
            Table(
                "",
                "Excess in decibels of squared error",
                ["index", *(defect.key for defect in known)],
                [
                    [index.title, *(_cell(value) for value in table[row])]
                    for row, index in enumerate(indices)
                ],
                digits=3,
            ),
        ),
        numbers={
            "excess_db": {
                name: {
                    defect.key: _cell(float(value))
                    for defect, value in zip(known, row, strict=True)
                }
                for name, row in by_name.items()
            }
        },
    )


def _on_edges(by_name: dict[str, NDArray[np.float64]]) -> str:
    columns = {"grating": 2, "blocks": 4}
    said = "; ".join(
        f"{name}: {_text(float(by_name['ssim'][column]))} and "
        f"{_text(float(by_name['edge_ssim'][column]))}"
        for name, column in columns.items()
    )
    return (
        f"SSIM and the edge-preserving SSIM of this package are close together here ({said}). Its "
        "windows let go of what differs by more than about 140 of 255 grey levels, which is "
        f"{140 / 255 * RANGE_HU:.0f} HU at L = {RANGE_HU}: more than most edges have. In a narrow "
        "window it is another index than SSIM; over the whole range of CT it hardly is."
    )


def _finding(
    defect: Defect,
    ssim_db: float,
    repaired: Sequence[QualityIndex],
    by_name: dict[str, NDArray[np.float64]],
    column: int,
) -> Finding:
    excess = {one.title: float(by_name[one.name][column]) for one in repaired}
    seeing = {title: value for title, value in excess.items() if not math.isnan(value)}
    ordered = sorted(seeing, key=lambda title: abs(seeing[title]))
    forgiving = max(seeing, key=lambda title: seeing[title])
    near = ", ".join(f"{title} ({_text(seeing[title])})" for title in ordered[:3])
    blind = [title for title, value in excess.items() if math.isnan(value)]
    return Finding(
        defect.title[0].upper() + defect.title[1:],
        f"{defect.paper} How repaired indices do is not at hand.",
        f"SSIM: {_text(ssim_db)}. Nearest to squared error: {near}. Forgives most: {forgiving} "
        f"({_text(seeing[forgiving])})." + (f" Blind: {', '.join(blind)}." if blind else ""),
        "SSIM forgives"
        if ssim_db > HELPED_DB
        else "SSIM punishes"
        if ssim_db < -HELPED_DB
        else f"SSIM is within {HELPED_DB:.0f} dB",
    )


def _cell(value: float) -> str | float:
    if math.isnan(value):
        return "blind"
    return float(value) if math.isfinite(value) else _text(value)


def _text(value: float) -> str:
    if math.isnan(value):
        return "blind"
    if math.isinf(value):
        return f"{'>' if value > 0 else '<'} {math.copysign(REACH_DB, value):+.0f} dB".replace(
            "-", "\N{MINUS SIGN}"
        )
    if round(value, 1) == 0:
        return "0.0 dB"
    return f"{value:+.1f} dB".replace("-", "\N{MINUS SIGN}")


def _scenes(known: Sequence[Defect]) -> str:
    from ssimrdo.lab.drawing import picture, svg

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(known) // 2, 4)
        for number, defect in enumerate(known):
            row, column = divmod(number, 2)
            low, high = np.quantile(defect.second.image, (0.02, 0.98))
            for place, scene in enumerate((defect.first, defect.second)):
                shown = (scene.image + scene.disturbance)[::2, ::2]
                title = "" if place == 0 else defect.short.replace("\n", " ")
                options = {"cmap": "gray", "vmin": low - 100, "vmax": high + 100}
                picture(axes[row, 2 * column + place], shown, title, **options)

    return svg(draw, 4.2)


def _heat(
    table: NDArray[np.float64], indices: Sequence[QualityIndex], known: Sequence[Defect]
) -> str:
    from ssimrdo.lab.drawing import heat_map, svg

    def draw(figure: Figure) -> None:
        heat_map(
            figure.subplots(),
            np.clip(table, -REACH_DB, REACH_DB),
            rows=[index.title for index in indices],
            columns=[defect.short for defect in known],
            texts=[[_text(value).removesuffix(" dB") for value in row] for row in table],
            low=-20,
            high=20,
        )

    return svg(draw, 0.7 + 0.22 * len(indices))


EXPERIMENT: Final = Experiment(
    "repairs",
    "Which repair helps where",
    "The four above, with every index",
    run,
)
