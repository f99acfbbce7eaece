"""What notebooks show of results, and how far long work is."""

from __future__ import annotations

import importlib.util
import sys
from html.parser import HTMLParser
from importlib import import_module

import numpy as np
import pytest
from video_files import ct_volume

import ssimrdo
from ssimrdo import Event, InputError, Volume, Window
from ssimrdo.comparison import CompareSettings
from ssimrdo.notebook import html_list, html_table, progress

SOFT = Window(40, 400)
SLICES = 5


class Cells(HTMLParser):
    """Rows of the tables of a page, and items of its lists."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.items = [], []
        self._cells = None
        self.feed(text)

    def handle_starttag(self, tag, _):
        if tag == "tr":
            self.rows.append([])
        self._cells = {"th": self.rows[-1:], "td": self.rows[-1:], "li": [self.items]}.get(tag)
        for cells in self._cells or ():
            cells.append("")

    def handle_endtag(self, _):
        self._cells = None

    def handle_data(self, data):
        for cells in self._cells or ():
            cells[-1] += data

    def row(self, head):
        (row,) = (row for row in self.rows if row[0] == head)
        return row[1:]


@pytest.fixture(scope="module")
def volume():
    return Volume(ct_volume(SLICES, 64, 80), pixel_spacing_mm=(0.7, 0.7))


@pytest.fixture(scope="module")
def encoded(volume, tmp_path_factory):
    output = tmp_path_factory.mktemp("private name") / "out.mp4"
    # So coarse that there is something to warn of.
    return ssimrdo.encode(volume, output, window=SOFT, crf=45), output


def test_an_encode_as_tables(encoded):
    result, _ = encoded
    shown = Cells(result._repr_html_())
    assert shown.row("slices") == [f"{SLICES}"]
    assert shown.row("size") == ["80×64"]
    assert shown.row("window") == ["40/400 HU"]
    numbers = [one["ssim"] for one in result.slices]
    mean, worst, number = shown.row("SSIM")
    assert float(mean) == pytest.approx(np.mean(numbers), abs=1e-4)
    assert float(worst) == pytest.approx(min(numbers), abs=1e-4)
    assert int(number) == numbers.index(min(numbers)) + 1
    assert shown.row("PSNR")[0].endswith(" dB")
    assert float(shown.row("body")[0]) == pytest.approx(
        result.as_dict()["tissue"]["errors"]["body"]["rmse"], abs=0.05
    )
    assert shown.items == [warning.text for warning in result.warnings] != []


def test_no_path_is_shown(encoded):
    result, _ = encoded
    assert "private name" in result.output
    assert "private name" not in result._repr_html_()


def test_a_measurement_as_tables(encoded, volume):
    _, output = encoded
    found = ssimrdo.measure(volume, output, ["ssim", "psnr"])
    shown = Cells(found._repr_html_())
    values = list(found.to_dataframe()["ssim"])
    mean, worst, number = shown.row("SSIM")
    assert float(mean) == pytest.approx(np.mean(values), abs=1e-4)
    assert float(worst) == pytest.approx(min(values), abs=1e-4)
    assert int(number) == values.index(min(values)) + 1
    assert shown.row("RMSE")[0].endswith(" HU")
    assert shown.items == [warning.text for warning in found.warnings]
    assert "private name" not in found._repr_html_()


def test_data_frames_have_a_row_for_each_slice(encoded, volume):
    result, output = encoded
    table = result.to_dataframe()
    assert list(table["number"]) == list(range(1, SLICES + 1))
    assert table["bytes"].sum() == sum(one["bytes"] for one in result.slices)
    assert table["ssim"].mean() == pytest.approx(result.ssim.mean)
    measured = ssimrdo.measure(volume, output, ["ssim"]).to_dataframe()
    assert list(measured["slice"]) == list(table["number"])
    assert list(measured["ssim"]) == pytest.approx(list(table["ssim"]), abs=1e-6)


def test_a_comparison_as_a_table_and_as_a_data_frame(phantom_folder):
    settings = CompareSettings(
        anchors=("x264", "x264-ssim"), slices=2, metrics=("ssim",), preset="ultrafast"
    )
    with ssimrdo.compare([phantom_folder], settings) as comparison:
        report = comparison.report
    shown = Cells(report._repr_html_())
    heads, *rows = shown.rows
    assert heads == ["", "SSIM", "SSIM in dB", "encode time"]
    assert [row[0] for row in rows] == [encoder.label for encoder in report.others]
    ours = report.summary["balanced"]
    *rates, seconds = shown.row(report.others[-1].label)
    assert [rate.replace("\u202f", " ").replace("\u2212", "-") for rate in rates] == [
        f"{ours.deltas[one].rate_percent.mean:+.1f} %" for one in ("ssim", "ssim_db")
    ]
    assert seconds == f"{1 / ours.speed:.2f} ×"
    table = report.to_dataframe()
    assert len(table) == 3 * 4
    (series,) = report.series
    of_ours = table[table["encoder"] == "balanced"]
    assert list(of_ours["ssim_mean"]) == [
        point.quality["ssim"].mean for point in series.curves["balanced"]
    ]
    assert set(table["series"]) == {"phantom"}


def test_a_window_by_name_is_refused_at_once():
    with pytest.raises(InputError, match="'lung' is not a window") as caught:
        CompareSettings(window="lung")
    assert caught.value.field == "window"
    assert CompareSettings(window=ssimrdo.parse_window("lung")).window.width == 1500


def test_an_inspection_is_shown_as_its_figure(volume):
    found = ssimrdo.inspect_slice(volume, window=SOFT)
    assert found._repr_png_().startswith(b"\x89PNG")


def test_a_table_shows_texts_as_they_are():
    assert Cells(html_table("<a>", ("<b>",), [("<c>", "&")])).rows == [["<b>"], ["<c>", "&"]]
    assert Cells(html_list(["<d>"])).items == ["<d>"]
    assert html_list([]) == ""


def test_what_is_missing_is_named(encoded, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="a data frame needs pandas") as caught:
        encoded[0].to_dataframe()
    assert "pandas" in caught.value.remedy


def test_the_package_offers_what_notebooks_need():
    assert ssimrdo.compare is import_module("ssimrdo.comparison").compare
    assert ssimrdo.inspect_slice is import_module("ssimrdo.inspection").inspect_slice


def test_progress_is_a_line_in_a_terminal(capfd):
    observer = progress("encoding")
    for done in range(1, 101):
        observer.tell(Event(done, 100))
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.split("\r")
    assert lines[-1] == "encoding: 100 of 100\n"
    # Not all of them, as they follow one another too quickly.
    assert len(lines) < 50


def test_what_an_event_says_comes_first(capfd):
    progress("comparing").tell(Event(4, 4, "x264 at CRF 23"))
    assert capfd.readouterr().err == "\rx264 at CRF 23: 4 of 4\n"


@pytest.mark.skipif(not importlib.util.find_spec("nbclient"), reason="needs scripts/setup docs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_progress_is_a_bar_in_a_notebook(tmp_path):
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    code = (
        "import numpy as np\n"
        "import ssimrdo\n"
        "hu = np.zeros((3, 32, 48), np.int16)\n"
        "volume = ssimrdo.Volume(hu, pixel_spacing_mm=(1, 1))\n"
        "observer = ssimrdo.progress('<encoding>')\n"
        "ssimrdo.encode(volume, 'out.mp4', window='40/400', observer=observer)"
    )
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, resources={"metadata": {"path": f"{tmp_path}"}}).execute()
    outputs = notebook.cells[0].outputs
    (bar,) = (one for one in outputs if one.output_type == "display_data")
    assert '<progress value="3" max="3">' in bar.data["text/html"]
    assert "&lt;encoding&gt;: 3 of 3" in bar.data["text/html"]
    (result,) = (one for one in outputs if one.output_type == "execute_result")
    assert Cells(result.data["text/html"]).row("slices") == ["3"]
