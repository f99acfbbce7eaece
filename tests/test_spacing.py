"""Missing slices and uneven steps: told, on record, and refused where that is asked for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from dicom_files import write_series, write_slice
from hypothesis import given
from hypothesis import strategies as st
from messages import error_of
from video_files import ct_volume

import ssimrdo
from ssimrdo.dicom.spacing import Gap, Spacing, spacing_of
from ssimrdo.errors import InputError

HU = ct_volume(9, 64, 64)


def write(folder, positions):
    for index, (z, hu) in enumerate(zip(positions, HU, strict=False)):
        write_slice(
            folder / f"{index}.dcm",
            (hu + 1024).astype(np.uint16),
            ImagePositionPatient=[0, 0, z],
            InstanceNumber=index + 1,
        )
    return folder


def command(*arguments):
    line = [sys.executable, "-m", "ssimrdo", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("step", [0.3, 0.625, 2.0, 5.0])
@pytest.mark.parametrize("digits", [1, 3])
def test_even_steps_are_regular_even_where_headers_round_them(step, digits):
    # A step that rounding to 0.1 mm changes by a third cannot be told from one that differs.
    if (step, digits) == (0.3, 1):
        step = 0.4
    found = spacing_of([round(17.3 + step * index, digits) for index in range(200)])
    assert found.regular
    assert found.step_mm == pytest.approx(step, abs=0.05 if digits == 1 else 1e-3)
    assert not found.texts()


@given(
    st.integers(6, 60),
    st.sampled_from((0.5, 0.75, 1.25, 3.0, 7.5)),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_slices_that_were_taken_out_are_found(count, step, rng, down):
    lost = sorted(rng.sample(range(1, count - 1), k=max(1, count // 20)))
    kept = [index for index in range(count) if index not in lost]
    positions = [-40 + step * index for index in kept]
    found = spacing_of([-one for one in positions] if down else positions)
    assert found.missing == len(lost)
    assert found.uneven == 0
    before = [number for number, (a, b) in enumerate(pairwise(kept), 1) if b > a + 1]
    assert [gap.after for gap in found.gaps] == before


def test_steps_that_change_on_the_way_are_uneven_and_no_gaps():
    # A head: 5 mm at the base, 10 mm above.
    along = [*range(0, 50, 5), *range(50, 150, 10)]
    found = spacing_of(along)
    assert not found.gaps
    assert found.uneven
    assert (found.smallest_mm, found.largest_mm) == (5, 10)
    assert list(found.texts()) == ["uneven_spacing"]


def test_repeated_positions_are_counted_and_are_no_steps():
    assert spacing_of([0, 0, 2, 2, 4, 4]) == Spacing(2, 2, 2, repeated=3)
    assert spacing_of([1, 1]) == Spacing(repeated=1)
    for unknown in (None, [], [3.5]):
        assert spacing_of(unknown) == Spacing()


def test_the_order_of_the_slices_does_not_matter():
    along = [0.0, 1, 2, 4, 5, 6.3, 7, 8]
    mixed = along[:]
    random.Random(3).shuffle(mixed)
    assert spacing_of(mixed).missing == spacing_of(along).missing == 1
    assert spacing_of(along).gaps == (Gap(3, 2.0, 1),)


def test_missing_slices_are_told_and_on_record(tmp_path):
    series = write(tmp_path / "ct", [0, 2, 4, 10, 12, 14])
    done = command("encode", series, "-o", tmp_path / "a.mp4", "--json")
    assert done.returncode == 0
    assert done.stderr.count("2 slices are missing: the step is 2 mm, but 6 mm after slice 3") == 1
    result, sidecar = json.loads(done.stdout), json.loads((tmp_path / "a.json").read_text())
    for record in (result, sidecar):
        assert record["spacing"]["gaps"] == [{"after": 3, "mm": 6.0, "missing": 2}]
        assert record["spacing"]["missing"] == 2
        assert record["spacing"]["regular"] is False
        assert "missing_slices" in [one["code"] for one in record["warnings"]]


def test_even_series_are_not_warned_of_and_pass_strictly(tmp_path):
    write_series(tmp_path / "ct", HU[:4])
    done = command("encode", tmp_path / "ct", "-o", tmp_path / "a.mp4", "--strict", "--json")
    assert done.returncode == 0
    assert "step" not in done.stderr
    spacing = json.loads(done.stdout)["spacing"]
    assert (spacing["step_mm"], spacing["regular"], spacing["gaps"]) == (2, True, [])


@pytest.mark.parametrize("kind", [[], ["--as", "ct"]])
def test_strict_refuses_in_one_line_and_writes_nothing(tmp_path, kind):
    series = write(tmp_path / "ct", [0, 2, 4, 10, 12, 14])
    out = tmp_path / "out"
    out.mkdir()
    output = out / ("a" if kind else "a.mp4")
    done = command("encode", series, "-o", output, "--strict", *kind)
    assert done.returncode == 2
    said = error_of(done.stderr)
    assert said.startswith(f"{series}: 2 slices are missing")
    assert "without --strict" in said
    assert not list(out.iterdir())


def test_strict_refuses_uneven_steps(tmp_path):
    series = write(tmp_path / "ct", [0, 2, 4, 6, 7, 9])
    with pytest.raises(InputError, match="the steps between slices differ: 1 to 2 mm"):
        ssimrdo.encode(series, tmp_path / "a.mp4", strict=True)


def test_strict_counts_slices_that_are_left_out_on_the_way(tmp_path):
    paths = write_series(tmp_path / "ct", HU[:6], compress="1.2.840.10008.1.2.5")
    data = bytearray(paths[3].read_bytes())
    # Of the RLE header: how many segments there are.
    at = data.rindex(b"\x02\0\0\0\x40\0\0\0")
    data[at] = 9
    paths[3].write_bytes(data)
    ssimrdo.encode(tmp_path / "ct", tmp_path / "a.mp4", skip_bad=True)
    with pytest.raises(InputError, match="1 slice is missing"):
        ssimrdo.encode(tmp_path / "ct", tmp_path / "b.mp4", skip_bad=True, strict=True)
    assert not (tmp_path / "b.mp4").exists()


def test_a_batch_records_what_is_refused_and_goes_on(tmp_path):
    write(tmp_path / "in" / "gap", [0, 2, 4, 10, 12, 14])
    write_series(tmp_path / "in" / "even", HU[:3], SeriesInstanceUID="1.2.3")
    done = command("batch", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "1", "--strict")
    assert done.returncode == 3
    assert (tmp_path / "out" / "even.mp4").exists()
    assert not (tmp_path / "out" / "gap.mp4").exists()
    assert "missing" in (tmp_path / "out" / "results.csv").read_text()


def test_a_batch_records_that_slices_lie_in_one_place(tmp_path):
    for phase in (1, 2):
        for index, hu in enumerate(HU[:3]):
            write_slice(
                tmp_path / "in" / f"{phase}{index}.dcm",
                (hu + 1024).astype(np.uint16),
                # Nothing tells them apart, so they are no phases.
                ImagePositionPatient=[0, 0, 2 * index],
            )
    done = command("batch", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "1", "--strict")
    assert done.returncode == 0
    (sidecar,) = (tmp_path / "out").glob("*.json")
    record = json.loads(sidecar.read_text())
    assert (record["frames"], record["spacing"]["repeated"]) == (6, 3)
    assert "repeated_positions" in (tmp_path / "out" / "results.csv").read_text()


def test_arrays_with_positions_are_looked_at_too(tmp_path, caplog):
    volume = ssimrdo.Volume(HU[:4], positions_mm=[0, 1, 2, 4])
    result = ssimrdo.encode(volume, tmp_path / "a.mp4", window="lung")
    assert result.spacing.missing == 1
    assert "1 slice is missing" in caplog.text
