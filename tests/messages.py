"""What stands on stderr beside what every encode says there."""

import re

EVERY_ENCODE = re.compile(
    r"ssimrdo: (.*window \S+ HU, .*|SSIM inside the body is .*|the largest error inside the body "
    r"is .*|the window clips .* of the body.*|.* saves .* % at equal SSIM, but loses .*|"
    r"\d+ files? left out: .*|trial \d+: .*)\n"
)
"""Which window was used, what was left out, the trials of a search, and what is to be warned of in
slices as small as those of most tests."""

LIFE = re.compile(
    r"ssimrdo: .*: (\d+ s so far|\d+( of \d+)? (slices, [0-9.]+ slices/s|encodes|steps)"
    r"(, about .* left)?)\n"
    r"|ssimrdo: (searching for series, |\[\d+/\d+\] encoding ).*\n"
    r"|ssimrdo: compiling the SSIM kernels.*\n"
)
"""What tells in long work that it goes on, which slow machines show in any."""

ERROR = re.compile(
    r"ssimrdo: error: (?P<what>[^\n]+)\n(?P<choices>(  [^\n]+\n)*)"
    r"(ssimrdo: hint: (?P<hint>[^\n]+)\n)?"
)


def without_life(stderr: str) -> str:
    """Return all but what depends on the machine's speed and state."""
    return LIFE.sub("", stderr)


def others(stderr: str) -> str:
    """Return all else."""
    return EVERY_ENCODE.sub("", without_life(stderr))


def error_of(stderr: str) -> str:
    """Return what is wrong and what to do about it as one line; nothing else may be there."""
    found = ERROR.fullmatch(others(stderr))
    assert found, stderr
    return ": ".join(filter(None, (found["what"], found["hint"])))
