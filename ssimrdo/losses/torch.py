"""The losses of this package for PyTorch: functions of tensors, and modules.

Nothing else of ssimrdo imports PyTorch, which comes with ``pip install "ssimrdo[torch]"``.

All functions take two batches of frames, tensors of shape (N, C, rows, columns) on one device, and
return the loss that the function of the same name in :mod:`ssimrdo.losses` has for the frames; that
of an image of several channels is their mean. They are made of differentiable operations, on any
device, and either batch may have a gradient. Half precision is computed in single, inside
``torch.autocast`` too, as variances are differences of nearly equal numbers. NaN gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from ssimrdo.extras import require
from ssimrdo.losses.frames import check_exponents
from ssimrdo.losses.kernels import FLAT, NEAR_ZERO
from ssimrdo.losses.multiscale import NEAR_ZERO as NEAR_ZERO_MEAN
from ssimrdo.metrics.complex_wavelet import (
    BOX,
    LEVELS,
    ORIENTATIONS,
    STABILIZER,
    pyramid_of,
    window_weights,
)
from ssimrdo.metrics.components import WINDOW, stabilizers
from ssimrdo.metrics.inverse import FLOOR
from ssimrdo.metrics.kernels import RADIUS
from ssimrdo.metrics.level_weighted import WINDOW_SIZES, level_weights, window_taps
from ssimrdo.metrics.multiscale import SCALE_WEIGHTS, scale_count
from ssimrdo.metrics.similarity import ALPHA, BETA

require("torch", what="ssimrdo.losses.torch")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

__all__ = [
    "CWSSIMLoss",
    "LWSSIMLoss",
    "MSSSIMLoss",
    "ReciprocalSSIMLoss",
    "SSIMLoss",
    "WeightedSSIMLoss",
    "one_minus_cw_ssim",
    "one_minus_lwssim",
    "one_minus_ms_ssim",
    "one_minus_ssim",
    "one_minus_weighted_ssim",
    "reciprocal_ssim",
]


def one_minus_ssim(x: Tensor, y: Tensor, *, data_range: float, reduction: str = "mean") -> Tensor:
    """Return 1 - SSIM; see :func:`ssimrdo.losses.one_minus_ssim`.

    Parameters
    ----------
    x, y : Tensor of shape (N, C, rows, columns)
        Frames of at least 11x11 samples; the order does not matter.
    data_range : float
        L: 1 for frames from 0 to 1.
    reduction : str
        ``mean`` or ``sum`` of the batch's images, or ``none``.

    Returns
    -------
    Tensor
        Without dimensions; of shape (N,) where the reduction is ``none``.

    Raises
    ------
    ValueError
        If the batches are not such, differ in shape or device or are too small, if L is not above
        0, or if the reduction is unknown.
    """

    def loss(a: Tensor, b: Tensor) -> Tensor:
        luminance, structure = _terms(a, b, data_range)
        return 1 - _mean(luminance * structure)

    return _reduced(loss, x, y, "SSIM", WINDOW, data_range, reduction)


def reciprocal_ssim(x: Tensor, y: Tensor, *, data_range: float, reduction: str = "mean") -> Tensor:
    """Return the mean of 1/SSIM over windows; see :func:`ssimrdo.losses.reciprocal_ssim`.

    Parameters, result and errors as for :func:`one_minus_ssim`.
    """

    def loss(a: Tensor, b: Tensor) -> Tensor:
        luminance, structure = _terms(a, b, data_range)
        similarity = luminance * structure
        bounded = similarity.clamp(min=FLOOR)
        return _mean(1 / bounded + (bounded - similarity) / FLOOR**2)

    return _reduced(loss, x, y, "1/SSIM", WINDOW, data_range, reduction)


def one_minus_weighted_ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return 1 - weighted SSIM; see :func:`ssimrdo.losses.one_minus_weighted_ssim`.

    Parameters, result and errors as there and for :func:`one_minus_ssim`. Where β ≠ γ everything is
    computed in doubles, but on devices that have none.
    """
    exponents = _exponents(alpha, beta, gamma)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        luminance, structure = _powers(a, b, data_range, exponents)
        return 1 - _mean(luminance * structure)

    title = "weighted SSIM"
    return _reduced(loss, x, y, title, WINDOW, data_range, reduction)


def one_minus_lwssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    window_sizes: Sequence[int] = WINDOW_SIZES,
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return 1 - LWSSIM; see :func:`ssimrdo.losses.one_minus_lwssim`.

    Parameters, result and errors as there and for :func:`one_minus_weighted_ssim`.
    """
    exponents = _exponents(alpha, beta, gamma)
    levels = level_weights(window_sizes, weights)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        total = 1.0
        for size, weight in levels:
            luminance, structure = _powers(a, b, data_range, exponents, size)
            total = total - weight / 2 * _mean(luminance + structure)
        return total

    return _reduced(loss, x, y, "LWSSIM", WINDOW, data_range, reduction)


def one_minus_ms_ssim(
    x: Tensor, y: Tensor, *, data_range: float, reduction: str = "mean"
) -> Tensor:
    """Return 1 - MS-SSIM; see :func:`ssimrdo.losses.one_minus_ms_ssim`.

    Parameters, result and errors as for :func:`one_minus_ssim`.
    """

    def loss(a: Tensor, b: Tensor) -> Tensor:
        scales = scale_count(min(a.shape[-2:]))
        share = sum(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS)
        index = 1.0
        for scale, weight in enumerate(SCALE_WEIGHTS[:scales], start=1):
            luminance, structure = _terms(a, b, data_range)
            mean = _mean(luminance * structure if scale == scales else structure)
            power = mean.clamp(min=NEAR_ZERO_MEAN) ** (weight / share)
            below = 1 + weight / share * (1 - mean / NEAR_ZERO_MEAN).clamp(min=0)
            index = index * power / below
            if scale < scales:
                a, b = _halve(a), _halve(b)
        return 1 - index

    return _reduced(loss, x, y, "MS-SSIM", WINDOW, data_range, reduction)


def one_minus_cw_ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    levels: int = LEVELS,
    orientations: int = ORIENTATIONS,
    stabilizer: float = STABILIZER,
    reduction: str = "mean",
) -> Tensor:
    """Return 1 - CW-SSIM; see :func:`ssimrdo.losses.one_minus_cw_ssim`.

    Parameters, result and errors as there and for :func:`one_minus_ssim`.
    """

    def loss(a: Tensor, b: Tensor) -> Tensor:
        shape = tuple(a.shape[-2:])
        masks, weights = _pyramid(shape, levels, orientations, a.dtype, a.device)
        p, q = _bands(a, masks), _bands(b, masks)
        product = p * q.conj()
        cross = torch.complex(_box(product.real), _box(product.imag)).abs()
        energy = _box(p.real**2 + p.imag**2 + q.real**2 + q.imag**2)
        constant = (stabilizer * data_range) ** 2 + torch.finfo(energy.dtype).tiny
        index = (2 * cross + constant) / (energy + constant)
        return 1 - (index * weights).sum(dim=(-2, -1)).mean(dim=-1)

    return _reduced(loss, x, y, "CW-SSIM", BOX, data_range, reduction)


class _Loss(nn.Module):
    """A function of this module with its options."""

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        super().__init__()
        _check_options(options["data_range"], options["reduction"])
        self.options = options
        self._function = partial(function, **options)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of two batches of frames."""
        return self._function(x, y)

    def extra_repr(self) -> str:
        """Return the options."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class SSIMLoss(_Loss):
    """1 - SSIM; options as of :func:`one_minus_ssim`."""

    def __init__(self, *, data_range: float, reduction: str = "mean") -> None:
        super().__init__(one_minus_ssim, data_range=data_range, reduction=reduction)


class ReciprocalSSIMLoss(_Loss):
    """1/SSIM; options as of :func:`reciprocal_ssim`."""

    def __init__(self, *, data_range: float, reduction: str = "mean") -> None:
        super().__init__(reciprocal_ssim, data_range=data_range, reduction=reduction)


class WeightedSSIMLoss(_Loss):
    """1 - weighted SSIM; options as of :func:`one_minus_weighted_ssim`."""

    def __init__(
        self,
        *,
        data_range: float,
        alpha: float = ALPHA,
        beta: float = BETA,
        gamma: float | None = None,
        reduction: str = "mean",
    ) -> None:
        _exponents(alpha, beta, gamma)
        super().__init__(
            one_minus_weighted_ssim,
            data_range=data_range,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            reduction=reduction,
        )


class LWSSIMLoss(_Loss):
    """1 - LWSSIM; options as of :func:`one_minus_lwssim`."""

    def __init__(
        self,
        *,
        data_range: float,
        window_sizes: Sequence[int] = WINDOW_SIZES,
        weights: Sequence[float] | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float | None = None,
        reduction: str = "mean",
    ) -> None:
        _exponents(alpha, beta, gamma)
        level_weights(window_sizes, weights)
        super().__init__(
            one_minus_lwssim,
            data_range=data_range,
            window_sizes=window_sizes,
            weights=weights,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            reduction=reduction,
        )


class MSSSIMLoss(_Loss):
    """1 - MS-SSIM; options as of :func:`one_minus_ms_ssim`."""

    def __init__(self, *, data_range: float, reduction: str = "mean") -> None:
        super().__init__(one_minus_ms_ssim, data_range=data_range, reduction=reduction)


class CWSSIMLoss(_Loss):
    """1 - CW-SSIM; options as of :func:`one_minus_cw_ssim`."""

    def __init__(
        self,
        *,
        data_range: float,
        levels: int = LEVELS,
        orientations: int = ORIENTATIONS,
        stabilizer: float = STABILIZER,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            one_minus_cw_ssim,
            data_range=data_range,
            levels=levels,
            orientations=orientations,
            stabilizer=stabilizer,
            reduction=reduction,
        )


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda losses: losses.mean(),
    "sum": lambda losses: losses.sum(),
    "none": lambda losses: losses,
}


def _reduced(
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    title: str,
    side: int,
    data_range: float,
    reduction: str,
) -> Tensor:
    """Check two batches, apply a function that returns a loss for each frame, and reduce these."""
    _check_options(data_range, reduction)
    if x.ndim != 4 or x.shape != y.shape or min(x.shape[-2:]) < side or 0 in x.shape:
        raise ValueError(
            f"{title} takes two batches of one shape (N, C, rows, columns), at least "
            f"{side}x{side}: got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.device != y.device:
        raise ValueError(f"{title} takes two batches on one device, not {x.device} and {y.device}")
    if x.is_complex() or y.is_complex():
        raise ValueError(f"{title} takes batches of real numbers, not {x.dtype} and {y.dtype}")
    dtype = torch.promote_types(x.dtype, y.dtype)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        return _REDUCTIONS[reduction](loss(x.to(real), y.to(real)).to(real).mean(dim=1))


def _check_options(data_range: float, reduction: str) -> None:
    if not 0 < data_range < float("inf"):
        raise ValueError(f"a loss takes a data range above 0, not {data_range}")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction is mean, sum or none, not {reduction!r:.40}")


def _exponents(alpha: float, beta: float, gamma: float | None) -> tuple[float, float, float]:
    exponents = (alpha, beta, beta if gamma is None else gamma)
    check_exponents(*exponents)
    return exponents


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=(-2, -1))


class _Blur(torch.autograd.Function):
    """Mean of the windows inside a plane, along one axis.

    Not a convolution, which GPUs compute with ten bits of mantissa unless told otherwise.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(plane: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
        size = plane.shape[axis] - 2 * RADIUS
        out = plane.narrow(axis, RADIUS, size) * taps[RADIUS]
        for k, tap in enumerate(taps[:RADIUS]):
            if tap:
                pair = plane.narrow(axis, k, size) + plane.narrow(axis, 2 * RADIUS - k, size)
                out.add_(pair, alpha=tap)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        _, ctx.taps, ctx.axis = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wide = 2 * RADIUS
        padding = (wide, wide, 0, 0) if ctx.axis == -1 else (0, 0, wide, wide)
        padded = functional.pad(gradients[0], padding)
        return _Blur.apply(padded, ctx.taps, ctx.axis), None, None


@torch.compiler.assume_constant_result
def _taps(size: int) -> tuple[float, ...]:
    return tuple(window_taps(size).tolist())


def _blur(plane: Tensor, size: int) -> Tensor:
    taps = _taps(size)
    return _Blur.apply(_Blur.apply(plane, taps, -2), taps, -1)


def _moments(x: Tensor, y: Tensor, data_range: float, size: int) -> tuple[Tensor, ...]:
    """Return means and variances of the sum and the difference of frames, as the kernels do."""
    total, difference = x + y - data_range, x - y
    mean_s, mean_d = _blur(total, size), _blur(difference, size)
    var_s = _blur(total * total, size) - mean_s * mean_s
    var_d = _blur(difference * difference, size) - mean_d * mean_d
    return mean_s + data_range, mean_d, var_s, var_d


def _terms(x: Tensor, y: Tensor, data_range: float, size: int = WINDOW) -> tuple[Tensor, Tensor]:
    """Return l and c s at every window."""
    c1, c2 = stabilizers(data_range)
    mean_s, mean_d, var_s, var_d = _moments(x, y, data_range, size)
    return (
        _ratio(mean_s * mean_s, mean_d * mean_d, c1),
        _ratio(var_s, var_d, c2),
    )


def _ratio(of_sum: Tensor, of_difference: Tensor, constant: float) -> Tensor:
    return (0.5 * (of_sum - of_difference) + constant) / (0.5 * (of_sum + of_difference) + constant)


def _powers(
    x: Tensor,
    y: Tensor,
    data_range: float,
    exponents: tuple[float, float, float],
    size: int = WINDOW,
) -> tuple[Tensor, Tensor]:
    """Return l^α and c^β s^γ at every window."""
    alpha, beta, gamma = exponents
    if beta == gamma:
        luminance, structure = _terms(x, y, data_range, size)
        return _power(luminance, alpha), _power(structure, beta)
    if x.device.type != "mps":
        x, y = x.double(), y.double()
    c1, c2 = stabilizers(data_range)
    mean_s, mean_d, var_s, var_d = _moments(x, y, data_range, size)
    total, difference = x + y - data_range, x - y
    cov = _blur(total * difference, size) - (mean_s - data_range) * mean_d
    flat = c2 * FLAT
    var_x = (0.25 * (var_s + var_d + 2 * cov)).clamp(min=0) + flat
    var_y = (0.25 * (var_s + var_d - 2 * cov)).clamp(min=0) + flat
    root = (var_x * var_y).sqrt()
    contrast = (2 * root + c2) / (var_x + var_y + c2)
    structure = (0.25 * (var_s - var_d) + flat + c2 / 2) / (root + c2 / 2)
    luminance = _ratio(mean_s * mean_s, mean_d * mean_d, c1)
    return _power(luminance, alpha), _power(contrast, beta) * _power(structure, gamma)


def _power(term: Tensor, exponent: float) -> Tensor:
    """Return ``sign(t) |t|^e``, with a cubic near 0 where e < 1."""
    if exponent == 1:
        return term
    if exponent == 0:
        return torch.ones_like(term)
    if exponent > 1:
        return term.sign() * term.abs() ** exponent
    linear = (3 - exponent) / 2 * NEAR_ZERO ** (exponent - 1)
    cubic = (exponent - 1) / 2 * NEAR_ZERO ** (exponent - 3)
    # What is not taken must have a finite gradient all the same.
    power = term.sign() * term.abs().clamp(min=NEAR_ZERO) ** exponent
    small = term.clamp(-NEAR_ZERO, NEAR_ZERO)
    return torch.where(term.abs() < NEAR_ZERO, small * (linear + cubic * small * small), power)


def _halve(planes: Tensor) -> Tensor:
    rows, columns = planes.shape[-2:]
    # Padding has no deterministic gradient on GPUs.
    if rows % 2:
        planes = torch.cat((planes, planes[..., -1:, :]), dim=-2)
    if columns % 2:
        planes = torch.cat((planes, planes[..., -1:]), dim=-1)
    return functional.avg_pool2d(planes, 2)


def _box(values: Tensor) -> Tensor:
    """Return the means of 7x7 windows over the last two of five axes."""
    planes = values.flatten(0, 1)
    return functional.avg_pool2d(planes, BOX, stride=1).unflatten(0, values.shape[:2])


def _bands(planes: Tensor, masks: Tensor) -> Tensor:
    """Return coefficients of shape (N, C, orientations, band rows, band columns)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(planes), dim=(-2, -1))
    for axis in (-2, -1):
        side = masks.shape[axis]
        spectrum = spectrum.narrow(axis, planes.shape[axis] // 2 - side // 2, side)
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum[..., None, :, :] * masks, dim=(-2, -1)))


@torch.compiler.disable
@lru_cache(maxsize=8)
def _pyramid(
    shape: tuple[int, int], levels: int, orientations: int, dtype: Any, device: Any
) -> tuple[Tensor, Tensor]:
    """Return the masks of bands and the weights of windows."""
    masks = pyramid_of(shape, levels, orientations).masks
    rows, columns = masks.shape[1:]
    weights = window_weights((rows - BOX + 1, columns - BOX + 1))
    scale = rows * columns / (shape[0] * shape[1])
    # Tensors made in inference mode cannot be used outside it, and these are kept.
    with torch.inference_mode(False):
        made = (torch.tensor(one, dtype=dtype) for one in (masks * scale, weights))
        first, second = (one.to(device) for one in made)
    return first, second
