"""Shells complete commands, options and values; the help of encode has its options in groups."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from video_files import run_command

from ssimrdo import metrics, objective
from ssimrdo.cli.main import COMMANDS, cli
from ssimrdo.codecs.x264.effort import EFFORTS
from ssimrdo.dicom import NAMED_WINDOWS
from ssimrdo.encoding.options import OPTIONS


def completions(*words, begun=""):
    """Return what a shell is offered for a word behind others."""
    found = ShellComplete(cli, {}, "ssimrdo", "_SSIMRDO_COMPLETE").get_completions(
        list(words), begun
    )
    return [item.value for item in found if item.type == "plain"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), COMMANDS),
        (("encode", "ct", "--effort"), EFFORTS),
        (("encode", "ct", "--window"), (*NAMED_WINDOWS, "auto")),
        (("encode", "ct", "--codec"), ("h264", "hevc", "av1")),
        (("encode", "ct", "--rdo"), (*objective.names(), "off")),
        (("encode", "ct", "--over"), ("worst", "mean", "p5")),
        (("encode", "ct", "--min"), tuple(f"{name}=" for name in metrics.names())),
        (("metrics", "ct", "a.mp4", "--metric"), metrics.names()),
        (("metrics", "ct", "a.mp4", "--match"), ("auto", "position", "order")),
        (("compare", "ct", "--mode"), ("crf", "qp", "bitrate")),
        (("decode", "a.mp4", "--syntax"), ("explicit", "rle", "jpegls", "htj2k")),
        (("completion",), ("bash", "zsh", "fish")),
    ],
)
def test_values_are_completed(words, expected):
    assert sorted(completions(*words)) == sorted(expected)


def test_what_is_begun_narrows_it():
    assert completions("encode", "ct", "--window", begun="l") == ["liver", "lung"]
    assert completions("encode", "ct", begun="--min-") == ["--min-ssim"]
    # The last of several.
    assert completions("encode", "ct", "--protect", begun="lung,so") == ["lung,soft-tissue"]


def test_series_are_completed_as_paths():
    found = ShellComplete(cli, {}, "ssimrdo", "_X").get_completions(["encode"], "ct-")
    assert [(item.type, item.value) for item in found] == [("file", "ct-")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssimrdo").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ssimrdo "$@"\n')
    (folder / "ssimrdo").chmod(0o700)
    script = """
        eval "$(ssimrdo completion bash)"
        COMP_WORDS=(ssimrdo encode ct --effort m) COMP_CWORD=4
        _ssimrdo_completion ssimrdo
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=path)
    assert (done.returncode, done.stdout) == (0, "max\n"), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script(capfd, shell):
    done = run_command(capfd, "completion", shell)
    assert (done.status, done.err) == (0, "")
    assert f"_SSIMRDO_COMPLETE={shell}_complete" in done.out


def test_every_option_of_an_encode_stands_in_one_group(capfd):
    done = run_command(capfd, "encode", "--help")
    titles = [line for line in done.out.splitlines() if line and line[0] != " " and line[-1] == ":"]
    assert titles == ["Output:", "Quality and size:", "What is shown:", "Input:", "Other options:"]
    for option in OPTIONS:
        lines = [
            line for line in done.out.splitlines() if f"{line} ".startswith(f"  {option.flag} ")
        ]
        assert len(lines) == 1, option.flag
    quality = done.out.partition("Quality and size:\n")[2]
    assert quality.split()[0] == "--min-ssim"
    assert "--target" not in done.out


def test_spellings_of_before_are_still_taken(capfd, tmp_path):
    done = run_command(capfd, "phantom", tmp_path / "a", "--slices", "1", "--size", "64")
    assert done.status == 0
    done = run_command(capfd, "phantom", "-o", tmp_path / "b", "--slices", "1", "--size", "64")
    assert done.status == 0
    (old,), (new,) = ((tmp_path / name).iterdir() for name in "ab")
    assert old.read_bytes() == new.read_bytes()
    assert "1 slice of 64x64" in done.out
    done = run_command(capfd, "metrics", tmp_path / "a", tmp_path / "b", "--index", "ssim")
    assert done.status == 0
    for given in ((), (tmp_path / "c", "-o", tmp_path / "d")):
        assert run_command(capfd, "phantom", *given).status == 2
