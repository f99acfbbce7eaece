"""How SSIM falls when an even image becomes brighter: an experiment for the laboratory."""

import numpy as np

from ssimrdo import metrics
from ssimrdo.lab.experiment import Experiment, Finding, Outcome, Table

STEPS = (0, 5, 20)
GREY = 100


def run(settings, observer):
    side = 32 if settings.quick else 256
    rows = []
    for step in STEPS:
        observer.check()
        image = np.full((side, side), GREY, float)
        rows.append((step, metrics.ssim(image, image + step, data_range=255)))
    lowest = rows[-1][1]
    return Outcome(
        method=[f"An even image of grey level {GREY}, made brighter."],
        findings=[Finding("brightness", "no paper", f"SSIM falls to {lowest:.3f}", "as expected")],
        reading=["An even image has luminance alone."],
        panels=[],
        tables=[Table("", "SSIM by brightness", ("step", "SSIM"), rows, shown=True)],
        numbers={"lowest": lowest},
    )


BRIGHTER = Experiment("brighter", "A brighter image", "Nobody's figure", run)
