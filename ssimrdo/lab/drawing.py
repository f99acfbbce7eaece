"""Figures as SVG whose colours follow the page: its light colours in files, variables on a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS: Final = {
    "paper": "#fbfbfa",
    "ink": "#1b2126",
    "soft": "#5b6770",
    "grid": "#e8ecee",
    "c0": "#3c444a",
    "c1": "#0072b2",
    "c2": "#d55e00",
    "c3": "#009e73",
    "c4": "#cc79a7",
    "c5": "#e69f00",
}
"""Light colours of the style sheet of all pages, by the name of the variable there."""

SERIES: Final = tuple(COLOURS[f"c{k}"] for k in (1, 2, 3, 4, 5, 0))
"""Colours of curves, in their order."""

DASHES: Final = ("-", (0, (6, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (1, 1)), (0, (4, 1)))
"""How curves are dashed, so that they differ without colour too."""

FONT: Final = "DejaVu Sans"

WIDTH_INCHES: Final = 4.6
"""Of a panel: on a telephone it is shown about as wide as it is, so its text stays legible."""

_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssimrdo",
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": COLOURS["ink"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": COLOURS["ink"],
    "figure.facecolor": COLOURS["paper"],
    "savefig.facecolor": COLOURS["paper"],
    "lines.linewidth": 1.6,
    "image.interpolation": "none",
}


@contextmanager
def style() -> Iterator[None]:
    """Give figures that are made and saved in the block the look of the pages."""
    from matplotlib import rc_context

    with rc_context(cast(Any, _STYLE)):
        yield


def svg(draw: Callable[[Figure], None], height_inches: float = 3.1, width: float = 1) -> str:
    """Return a figure as SVG, the same bytes for the same figure.

    Parameters
    ----------
    draw : callable
        Draws into an empty figure.
    height_inches : float
        Its height.
    width : float
        Its width in panels.
    """
    # A Figure of its own, as pyplot would look for a display and keep it in a global list.
    from matplotlib.figure import Figure

    with style():
        size = (WIDTH_INCHES * width, height_inches)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "ssimrdo"})
    return stream.getvalue()


def inline(picture: str, prefix: str) -> str:
    """Return an SVG for a page: colours are the page's own, and its names are told from others'.

    Parameters
    ----------
    picture : str
        From :func:`svg`.
    prefix : str
        What its names begin with.
    """
    picture = picture[picture.index("<svg") :]
    for element in ("metadata", "style"):
        picture = re.sub(rf"<{element}\b.*?</{element}>", "", picture, flags=re.DOTALL)
    picture = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', picture)
    picture = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", picture)
    picture = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', picture)
    # The size is the page's affair.
    picture = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", picture, count=1)
    picture = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", picture, count=1)
    picture = picture.replace(f"'{FONT}'", "inherit")
    for name, colour in COLOURS.items():
        picture = picture.replace(colour, f"var(--{name})")
    return picture


def curves(
    axes: Axes, x: NDArray[Any] | Sequence[float], named: dict[str, Any], **style_of: Any
) -> None:
    """Draw curves over one abscissa, each in its colour and dashes, with a legend."""
    for number, (name, y) in enumerate(named.items()):
        colour = SERIES[number % len(SERIES)]
        # Curves that share a colour have other dashes.
        dashes = DASHES[(number + number // len(SERIES)) % len(DASHES)]
        axes.plot(x, y, color=colour, linestyle=dashes, label=name, **style_of)
    axes.legend(handlelength=2.6)


def picture(axes: Axes, image: NDArray[Any], title: str = "", **options: Any) -> Any:
    """Show an image without axes and return what a colour bar takes."""
    drawn = axes.imshow(image, **options)
    axes.set_title(title)
    axes.grid(visible=False)
    axes.set_axis_off()
    return drawn


def plain_ticks(axis: Axis) -> None:
    """Mark a logarithmic axis with plain numbers, at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def heat_map(
    axes: Axes,
    values: NDArray[Any],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    texts: Sequence[Sequence[str]],
    low: float,
    high: float,
    colours: str = "PuOr_r",
) -> Any:
    """Draw a table whose cells are coloured by value, NaN not at all; return what a bar takes.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    values : ndarray of shape (rows, columns)
        Decide the colours.
    rows, columns : sequence of str
        Headings.
    texts : sequence of sequence of str
        What stands in the cells.
    low, high : float
        Values at the ends of the colours.
    colours : str
        Name of a Matplotlib colour map.
    """
    from matplotlib import colormaps

    drawn = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        known = bool(np.isfinite(value))
        share = min(max(float(value - low) / (high - low), 0.0), 1.0) if known else 0.5
        light = np.dot(colormaps[colours](share)[:3], (0.3, 0.6, 0.1)) > 0.5
        ink = COLOURS["soft"] if not known else "#101418" if light else "#fdfdfd"
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=8, color=ink)
    return drawn
