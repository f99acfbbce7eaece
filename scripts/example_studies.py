"""Example: encode a folder of studies one by one and look at the results as a table.

Usage: .venv/bin/python scripts/example_studies.py STUDIES OUT

STUDIES has a folder per study. Each becomes a batch of its own, so that a study is done, reported
and can be handed on before the next begins. Run it again: what is done is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ssimrdo import EncodeSettings
from ssimrdo.batch import BatchSettings, LocalExecutor, read_results, run
from ssimrdo.errors import InputError


def main(studies: Path, out: Path) -> None:
    """Encode every study and print the series that lost the most."""
    settings = BatchSettings(
        encode=EncodeSettings.of(crf=20),
        # Folder names may name patients; hashes of the UIDs do not.
        name_template="{study_hash}/{series_number:03d}-{uid_hash}",
        # A damaged file costs one slice instead of its series.
        skip_bad=True,
    )
    # The processes are started once and serve all studies.
    executor = LocalExecutor(settings.workers)
    rows = []
    for study in sorted(path for path in studies.iterdir() if path.is_dir()):
        try:
            result = run(study, out / study.name, settings, executor=executor)
        except InputError as error:
            # Such as a folder without a CT series; the other studies go on.
            print(f"left out: {error}", file=sys.stderr)
            continue
        totals = result.totals
        print(
            f"{study.name}: {totals.encoded} encoded, {totals.done_before} done before, "
            f"{result.failed} failed, {result.seconds:.1f} s",
            file=sys.stderr,
        )
        # One flat record per series; read_results streams them from results.jsonl.
        rows += [
            {"study": study.name, **record.as_dict()} for record in read_results(out / study.name)
        ]
    executor.shutdown()

    # With pandas this is a data frame: frame = pandas.DataFrame(rows), or for one study
    # pandas.read_csv(out / study / "results.csv"). Without it, plain Python does.
    encoded = [row for row in rows if row["status"] == "encoded"]
    for row in sorted(encoded, key=lambda row: row["ssim_min"])[:5]:
        saved = 1 - row["output_bytes"] / row["input_bytes"]
        print(
            f"{row['study']}/{row['output']}: worst slice {row['worst_slice_number']} has SSIM "
            f"{row['ssim_min']:.4f}; {saved:.1%} saved"
        )


# Worker processes import this file, so what runs must stand behind this line.
if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
