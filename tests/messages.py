"""What stands on stderr beside what every encode says there."""

import re

EVERY_ENCODE = re.compile(
    r"ssimrdo: (.*window \S+ HU, .*|SSIM inside the body is .*|the largest error inside the body "
    r"is .*|the window clips .* of the body.*|.* saves .* % at equal SSIM, but loses .*)\n"
)
"""Which window was used, and what is to be warned of in slices as small as those of most tests."""


def others(stderr: str) -> str:
    """Return all else."""
    return EVERY_ENCODE.sub("", stderr)
