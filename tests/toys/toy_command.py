"""``ssimrdo body``: the volume of the body in a CT series."""

import json

import click

from ssimrdo.cli.options import json_option, series_uid_option, verbose_option
from ssimrdo.cli.terminal import show


@click.command(epilog="Example: ssimrdo body ct-series/ --above -300")
@click.argument("series", type=click.Path())
@click.option("--above", type=float, default=-500, show_default=True, help="HU that count as body.")
@series_uid_option
@json_option
@verbose_option
def body(series, above, series_uid, as_json):
    """Tell the volume of the body in the CT series in the folder SERIES."""
    # What takes long to import is imported when it is needed.
    import numpy as np

    from ssimrdo import InputError, load_volume

    volume = load_volume(series, series_uid=series_uid)
    if len(volume.hu) < 2:
        raise InputError(f"{series}: a single slice has no volume")
    step = float(np.median(np.diff(volume.positions_mm)))
    row, column = volume.pixel_spacing_mm
    litres = float((volume.hu > above).sum() * row * column * step / 1e6)
    show(json.dumps({"litres": litres}) if as_json else f"{litres:.2f} l")
