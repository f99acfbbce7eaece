"""Whether a reconstruction kernel is sharp or soft, by how makers of scanners name them."""

from __future__ import annotations

import re
from typing import Final

SHARP: Final = "sharp"
SOFT: Final = "soft"

# PS3.3 C.8.15.3.6: Defined Terms of Convolution Kernel Group.
_GROUPS: Final = {"BRAIN": SOFT, "SOFT_TISSUE": SOFT, "LUNG": SHARP, "BONE": SHARP}

# GE, and words that others use.
_WORDS: Final = {
    **dict.fromkeys(("SOFT", "STANDARD", "STND", "STD", "SMOOTH", "BRAIN"), SOFT),
    **dict.fromkeys(("LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "SHARP"), SHARP),
}
# Philips: smooth A, standard B, sharp C, detail D, E, lung L; with U before it for brains and with
# I for iterative methods. All with Y, which are for bone and lung, are sharper than these.
_LETTERS: Final = {**dict.fromkeys("AB", SOFT), **dict.fromkeys("CDELY", SHARP)}
_PHILIPS: Final = re.compile("[UI]?([A-EL])|(Y)[A-E]")
# Siemens: B30f, Hr60, Br40d, I70f: the number is the sharpness.
_SIEMENS: Final = re.compile("[A-Z]{1,2}([0-9]{2})[A-Z]?")
_SIEMENS_SHARP: Final = 50
# Canon: body 01 to 19, head 20 to 29, bone 30 to 39, lung 50 to 59, high resolution 80 to 89.
_CANON: Final = re.compile("FC([0-9])[0-9]")
_CANON_TENS: Final = {**dict.fromkeys("01246", SOFT), **dict.fromkeys("358", SHARP)}


def kernel_class(kernel: str, group: str = "") -> str:
    """Return the class of a kernel, which tells nothing else of a header's text.

    Parameters
    ----------
    kernel : str
        Convolution Kernel.
    group : str
        Convolution Kernel Group, which counts where it says something.

    Returns
    -------
    str
        ``sharp``, ``soft``, or nothing where that cannot be told.
    """
    known = _GROUPS.get(group.strip().upper())
    if known is not None:
        return known
    code = kernel.partition("\\")[0].strip().upper()
    if match := _CANON.match(code):
        return _CANON_TENS.get(match[1], "")
    if match := _SIEMENS.fullmatch(code):
        return SHARP if int(match[1]) >= _SIEMENS_SHARP else SOFT
    if match := _PHILIPS.fullmatch(code):
        return _LETTERS[match[1] or match[2]]
    words = (_WORDS.get(word, "") for word in re.split("[^A-Z]+", code))
    return next(filter(None, words), "")
