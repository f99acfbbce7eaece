"""``ssimrdo phantom``: write a synthetic CT series."""

from __future__ import annotations

import click

_EPILOG = """\b
Example:
  ssimrdo phantom -o thorax/ --slices 40 --seed 7
"""


@click.command(epilog=_EPILOG)
@click.argument("out_folder", required=False, type=click.Path(), metavar="")
@click.option(
    "-o", "--output", type=click.Path(), metavar="FOLDER", help="Folder to write.  [required]"
)
@click.option(
    "--slices",
    type=click.IntRange(1, 5000),
    metavar="N",
    default=60,
    show_default=True,
    help="Number of slices. The thorax is 185 mm long; a longer series travels back through it.",
)
@click.option(
    "--size",
    type=click.IntRange(64, 1024),
    metavar="N",
    default=512,
    show_default=True,
    help="Rows and columns of each slice.",
)
@click.option(
    "--spacing",
    type=click.FloatRange(0.1, 20),
    default=1.25,
    show_default=True,
    metavar="MM",
    help="Distance between slices, and their thickness.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of anatomy and noise; the same options give the same bytes.",
)
@click.option("--jpeg-ls", is_flag=True, help="Compress the pixels with JPEG-LS Lossless.")
@click.option("--overwrite", is_flag=True, help="Replace a phantom that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def phantom(
    out_folder: str | None,
    output: str | None,
    slices: int,
    size: int,
    spacing: float,
    seed: int,
    jpeg_ls: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a synthetic CT thorax as a DICOM series.

    Anatomy changes smoothly from slice to slice and the noise is that of filtered
    back-projection, so the series compresses like a real one. No patient data is involved.
    """
    import json

    from ssimrdo.cli.progress import progress
    from ssimrdo.cli.terminal import show
    from ssimrdo.phantom import PhantomSettings, write_phantom
    from ssimrdo.text import counted

    # The folder was an argument once.
    target = output or out_folder
    if not target or (output and out_folder):
        raise click.UsageError("give one folder with -o FOLDER")
    settings = PhantomSettings(slices=slices, size=size, seed=seed, slice_spacing_mm=spacing)
    with progress("drawing", total=slices) as observer:
        result = write_phantom(
            target,
            settings,
            jpeg_ls=jpeg_ls,
            overwrite=overwrite,
            observer=observer,
        )
    if as_json:
        fields = {
            "output": str(result.folder),
            "slices": result.slices,
            "size": size,
            "seed": seed,
            "series_uid": result.series_uid,
            "bytes": result.size_bytes,
            "seconds": round(result.seconds, 3),
        }
        show(json.dumps(fields))
    else:
        show(
            f"{result.folder}: {counted(result.slices, 'slice')} of {size}x{size}, "
            f"{result.size_bytes / 1e6:.1f} MB, {result.seconds:.1f} s"
        )
