"""Convolutional auto-encoders and their training; needs PyTorch.

References
----------
.. [1] D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", ICLR 2014.
.. [2] S. Zhao, J. Song and S. Ermon, "InfoVAE: balancing learning and inference in variational
   autoencoders", AAAI 2019; MMD as there, without the variational bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ssimrdo.losses.torch import one_minus_lwssim, one_minus_ssim
from ssimrdo.metrics.kernels import RADIUS
from ssimrdo.observer import Observer

Loss = Callable[[Any, Any], Any]


def _framed(images: Any) -> Any:
    """Return images with mirrored borders, so that windows see samples at the border as well."""
    return nn.functional.pad(images, (RADIUS,) * 4, mode="reflect")


LOSSES: Final[Mapping[str, Loss]] = MappingProxyType(
    {
        "MSE": nn.functional.mse_loss,
        "1 \N{MINUS SIGN} SSIM": lambda x, y: one_minus_ssim(_framed(x), _framed(y), data_range=1),
        "LWSSIM": lambda x, y: one_minus_lwssim(_framed(x), _framed(y), data_range=1),
    }
)
"""Reconstruction losses by name, of images from 0 to 1."""

KINDS: Final = ("AE", "VAE", "MMD-AE")

PRIOR_WEIGHT: Final = MappingProxyType({"AE": 0.0, "VAE": 0.02, "MMD-AE": 1.0})
"""Weight of what draws the code to a normal distribution, beside a reconstruction loss of 1 for
the mean training image."""

RATE: Final = 2e-3


@dataclass(frozen=True)
class Plan:
    """How networks are made and trained.

    Parameters
    ----------
    side : int
        Rows and columns of the images, a multiple of 8.
    channels : int
        Of the first layer; the others have twice and four times as many.
    code : int
        Numbers in the code of an image.
    steps : int
        Of training.
    batch : int
        Images a step.
    looks : int
        How often the test images are measured on the way.
    """

    side: int
    channels: int
    code: int
    steps: int
    batch: int
    looks: int


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Parameters
    ----------
    shown : ndarray of shape (images, side, side), float32
        Reconstructions of the test images at the end.
    looks : list of (int, ndarray)
        Reconstructions on the way, by step.
    """

    shown: NDArray[np.float32]
    looks: list[tuple[int, NDArray[np.float32]]]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread in the block, so that results do not depend on how many it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device() -> str:
    """Return where networks are trained."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def train(
    kind: str,
    loss: str,
    images: NDArray[np.float32],
    test: NDArray[np.float32],
    plan: Plan,
    seed: int,
    observer: Observer,
) -> Trained:
    """Train a network and return its reconstructions of the test images.

    PyTorch's generator and number of threads are put back afterwards.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    loss : str
        One of :data:`LOSSES`.
    images : ndarray of shape (images, rows, columns), float32
        From 0 to 1; every step takes squares from random places of random ones, mirrored or not.
    test : ndarray of shape (images, side, side), float32
        Never trained on.
    plan : Plan
        Sizes.
    seed : int
        Of weights, batches and codes.
    observer : Observer
        May cancel.
    """
    where = device()
    rng = np.random.default_rng([seed, 17])
    with one_thread(), torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder, decoder = _networks(plan, 2 * plan.code if kind == "VAE" else plan.code)
        encoder, decoder = encoder.to(where), decoder.to(where)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=RATE, total_steps=plan.steps
        )
        measure = LOSSES[loss]
        unit = _loss_of_mean(measure, images, plan, rng, where)
        target = torch.from_numpy(test[:, None]).to(where)
        looks = []
        for step in range(plan.steps):
            observer.check()
            batch = torch.from_numpy(_batch(images, plan, rng)).to(where)
            code, prior = _coded(kind, encoder(batch))
            total = measure(decoder(code), batch) / unit + PRIOR_WEIGHT[kind] * prior
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % max(plan.steps // plan.looks, 1) == 0:
                looks.append((step + 1, _reconstructed(kind, encoder, decoder, target)))
    return Trained(looks[-1][1], looks)


def _networks(plan: Plan, code: int) -> tuple[Any, Any]:
    first, second, third = (plan.channels * factor for factor in (1, 2, 4))
    low = plan.side // 8

    def down(before: int, after: int) -> list[Any]:
        return [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(4, after), nn.LeakyReLU(0.1)]

    def up(before: int, after: int) -> list[Any]:
        return [
            nn.ConvTranspose2d(before, after, 4, 2, 1),
            nn.GroupNorm(4, after),
            nn.LeakyReLU(0.1),
        ]

    encoder = nn.Sequential(
        *down(1, first),
        *down(first, second),
        *down(second, third),
        nn.Flatten(),
        nn.Linear(third * low * low, code),
    )
    decoder = nn.Sequential(
        nn.Linear(plan.code, third * low * low),
        nn.Unflatten(1, (third, low, low)),
        *up(third, second),
        *up(second, first),
        nn.ConvTranspose2d(first, 1, 4, 2, 1),
        nn.Sigmoid(),
    )
    return encoder, decoder


def _coded(kind: str, encoded: Any) -> tuple[Any, Any]:
    """Return the code that the decoder gets in training, and how far codes are from normal."""
    if kind == "AE":
        return encoded, 0.0
    if kind == "MMD-AE":
        return encoded, mmd(encoded, torch.randn_like(encoded))
    mean, log_variance = encoded.chunk(2, dim=1)
    log_variance = log_variance.clamp(-10, 10)
    code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
    # Kullback-Leibler divergence from the unit normal, a number of the code on average.
    divergence = (mean**2 + log_variance.exp() - log_variance - 1).mean() / 2
    return code, divergence


def mmd(x: Any, y: Any) -> Any:
    """Return the squared maximum mean discrepancy of two samples, unbiased.

    The kernel is the sum of inverse multiquadrics ``s / (s + d²)`` over s of 1/5 to 5 times twice
    the number of dimensions.

    Parameters
    ----------
    x, y : Tensor of shape (samples, dimensions)
        Two or more samples each.
    """
    count, dimensions = x.shape
    off = 1 - torch.eye(count, device=x.device)

    def kernel(a: Any, b: Any) -> Any:
        squared = torch.cdist(a, b) ** 2
        scales = [2.0 * dimensions * factor for factor in (0.2, 0.5, 1.0, 2.0, 5.0)]
        return sum(scale / (scale + squared) for scale in scales)

    pairs = count * (count - 1)
    within = ((kernel(x, x) + kernel(y, y)) * off).sum() / pairs
    return within - 2 * kernel(x, y).mean()


def _reconstructed(kind: str, encoder: Any, decoder: Any, target: Any) -> NDArray[np.float32]:
    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        encoded = encoder(target)
        code = encoded.chunk(2, dim=1)[0] if kind == "VAE" else encoded
        shown: NDArray[np.float32] = decoder(code)[:, 0].cpu().numpy()
    encoder.train()
    decoder.train()
    return shown


def _loss_of_mean(
    measure: Loss, images: NDArray[np.float32], plan: Plan, rng: np.random.Generator, where: str
) -> float:
    """Return the loss of a network that shows the same mean image for all."""
    sample = np.concatenate([_batch(images, plan, rng) for _ in range(4)])
    mean = np.broadcast_to(sample.mean(axis=0), sample.shape)
    pair = (torch.from_numpy(np.ascontiguousarray(one)).to(where) for one in (mean, sample))
    return float(measure(*pair))


def _batch(images: NDArray[np.float32], plan: Plan, rng: np.random.Generator) -> NDArray[Any]:
    count, rows, columns = images.shape
    batch = np.empty((plan.batch, 1, plan.side, plan.side), np.float32)
    for one in batch:
        top, left = rng.integers(rows - plan.side + 1), rng.integers(columns - plan.side + 1)
        crop = images[rng.integers(count), top : top + plan.side, left : left + plan.side]
        one[0] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return batch
