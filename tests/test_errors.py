"""Errors: their texts, and what survives pickling and copying."""

import ast
import copy
import importlib
import pickle
import pkgutil
import re
from pathlib import Path

import pytest

import ssimrdo
from ssimrdo.cli.options import flag_of
from ssimrdo.errors import (
    BadSliceError,
    CancelledError,
    EncoderError,
    InputError,
    SeveralSeriesError,
    SsimrdoError,
    VerificationError,
)

PACKAGE = Path(ssimrdo.__file__).parent


def test_a_text_has_field_reason_and_remedy():
    error = InputError(
        "90 is out of range", field="rdo_strength", remedy="use 0 to 4, or {rdo} off"
    )
    assert str(error) == "rdo_strength: 90 is out of range: use 0 to 4, or rdo off"
    assert error.text(flag_of) == "--rdo-strength: 90 is out of range: use 0 to 4, or --rdo off"
    assert error.text(str.upper) == "RDO_STRENGTH: 90 is out of range: use 0 to 4, or RDO off"
    assert (error.reason, error.field) == ("90 is out of range", "rdo_strength")


def test_a_text_without_field_or_remedy_is_the_reason():
    assert str(SsimrdoError("no")) == SsimrdoError("no").text(flag_of) == "no"
    assert str(InputError("no", remedy="go")) == "no: go"
    assert str(InputError("no", field="crf")) == "crf: no"


def test_braces_in_a_path_are_no_option():
    error = InputError("/data/{crf}/a.dcm: is damaged", remedy="leave it out with {skip_bad}")
    assert error.text(flag_of) == "/data/{crf}/a.dcm: is damaged: leave it out with --skip-bad"


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ("crf", "--crf"),
        ("bitrate_kbps", "--bitrate"),
        ("min_ssim", "--min-ssim"),
        ("series_uid", "--series"),
        ("overwrite", "--overwrite"),
        ("skip_bad", "--skip-bad"),
    ],
)
def test_fields_become_flags_on_the_command_line(field, flag):
    assert flag_of(field) == flag


def test_a_bad_slice_tells_path_and_cause():
    error = BadSliceError("ct/a.dcm", "Rows is missing", remedy="{skip_bad} leaves it out")
    assert (error.path, error.cause) == ("ct/a.dcm", "Rows is missing")
    assert str(error) == "ct/a.dcm: Rows is missing: skip_bad leaves it out"
    assert isinstance(error, InputError)


def modules():
    """Import the whole package and yield its modules."""
    for found in pkgutil.walk_packages([str(PACKAGE)], "ssimrdo."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def every_error():
    list(modules())
    return sorted(subclasses(SsimrdoError), key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_copies_of_every_error_keep_all_it_tells(again):
    kinds = every_error()
    assert {EncoderError, SeveralSeriesError, VerificationError, CancelledError} < set(kinds)
    for kind in kinds:
        if issubclass(kind, BadSliceError):
            error = kind("a.dcm", "cause", remedy="{skip_bad}")
        elif issubclass(kind, CancelledError):
            error = kind()
        else:
            error = kind("reason", field="crf", remedy="use {qp}")
        found = again(error)
        assert type(found) is kind
        assert found is not error
        assert vars(found) == vars(error)
        assert {"reason", "field", "remedy"} <= vars(found).keys()
        assert str(found) == str(error)
        assert found.args == error.args


def literals(tree):
    """Yield the text literals of a module that are no docstrings."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.value


PROGRAM_OPTIONS = {"--tune", "--tskip", "--scm", "--variance-boost-strength", "--force-reinstall"}
"""What legends of curves call the tunings of encoders; how pip mends a library."""


def test_only_the_command_line_knows_flags():
    for path in PACKAGE.rglob("*.py"):
        folder = path.relative_to(PACKAGE).parts[0]
        if folder != "cli":
            texts = literals(ast.parse(path.read_text()))
            found = {flag for text in texts for flag in re.findall(r"--[a-z][\w-]*", text)}
            assert found <= (
                PROGRAM_OPTIONS if folder in ("codecs", "lab", "extras.py") else set()
            ), path
