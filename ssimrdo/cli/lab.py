"""``ssimrdo lab``: re-create published studies of quality indices on CT."""

from __future__ import annotations

from pathlib import Path

import click

from ssimrdo.cli.options import overwrite_option, verbose_option

EXIT_SOME_FAILED = 3

CT_VARIABLE = "SSIMRDO_CT_DATA"
"""Environment variable that names a folder with a CT series in each folder."""


class _LabCommand(click.Command):
    """A command whose help lists the experiments, looked up when the help is shown."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the experiments with a line each, and examples."""
        del ctx
        from ssimrdo.lab import SUMMARIES

        with formatter.section("Experiments"):
            formatter.write_dl([*SUMMARIES.items(), ("all", "all of them, on one page")])
        with formatter.section("Examples"):
            formatter.write_text("ssimrdo lab lung -o lung/")
            formatter.write_text("ssimrdo lab all -o lab/ --quick")


@click.command(cls=_LabCommand)
@click.argument("name")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="FOLDER",
    help="Folder for lab.html, lab.json, and the pictures, data and texts of each experiment.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="A small version, to see what there is: its numbers are not those of a full run.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of all that is random.",
)
@click.option(
    "--ct",
    "ct_folder",
    type=click.Path(),
    envvar=CT_VARIABLE,
    metavar="FOLDER",
    help="A folder with a CT series in each folder, for the experiments that can use real slices; "
    f"the page may then show some. [default: ${CT_VARIABLE}, else the phantom alone]",
)
@overwrite_option
@verbose_option
def lab(
    name: str, output: str, quick: bool, seed: int, ct_folder: str | None, overwrite: bool
) -> int:
    """Run the experiment NAME, or all, and write what it finds to FOLDER.

    Each re-creates a published study of where SSIM misleads on CT, or of what helps, and puts the
    paper's findings beside its own. No data is needed: a synthetic thorax is built in. A
    summary goes to stdout as JSON. Exit status 3: some of several experiments failed.
    """
    import json
    import os

    from ssimrdo.cli.progress import progress
    from ssimrdo.cli.terminal import show, tell
    from ssimrdo.files import check_folder_free
    from ssimrdo.lab import SUMMARIES
    from ssimrdo.lab.experiment import LabSettings
    from ssimrdo.lab.run import ALL, Result, run_lab, summary, write_lab

    if not output:
        raise click.UsageError("a path is empty")
    # SVT-AV1 would write its settings to stderr; there is no other switch.
    os.environ.setdefault("SVT_LOG", "1")
    folder = Path(output)
    check_folder_free(folder, overwrite=overwrite)
    settings = LabSettings(quick=quick, seed=seed, ct_folder=Path(ct_folder) if ct_folder else None)

    def finished(result: Result) -> None:
        tell(f"{result.experiment.name}: {result.skipped or f'{result.seconds:.0f} s'}")

    with progress("reading", "steps") as observer:
        names = tuple(SUMMARIES) if name == ALL else (name,)
        results = run_lab(names, settings, observer=observer, finished=finished)
        files = write_lab(results, folder, settings, overwrite=overwrite)
    show(json.dumps({"output": output, "files": files, **summary(results, settings)}))
    return EXIT_SOME_FAILED if any(result.is_failed for result in results) else 0
