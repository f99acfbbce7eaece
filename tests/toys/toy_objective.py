"""The left half of a slice: errors there cost sixteen times as much as in the right one."""

import numpy as np

from ssimrdo import objective


def sensitivity(luma, frame_format):
    del luma
    theta = np.ones(frame_format.grid, np.float32)
    theta[:, : theta.shape[1] // 2] = 16
    return theta


def reference(frame_format):
    del frame_format
    return 4.0


LEFT = objective.register(objective.Objective("left", "Left half", sensitivity, reference))
