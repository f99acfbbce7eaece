"""Losses in PyTorch: those of NumPy, for batches and on any device."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ssimrdo import losses

torch = pytest.importorskip("torch", reason="needs torch: scripts/setup torch")

# Only where torch is there.
import ssimrdo.losses.torch as torch_losses  # noqa: E402

CASES = {
    "ssim": ("one_minus_ssim", "SSIMLoss", {}),
    "1/ssim": ("reciprocal_ssim", "ReciprocalSSIMLoss", {}),
    "weighted": ("one_minus_weighted_ssim", "WeightedSSIMLoss", {}),
    "weighted, powers": (
        "one_minus_weighted_ssim",
        "WeightedSSIMLoss",
        {"alpha": 0.4, "beta": 2.5},
    ),
    "weighted, apart": (
        "one_minus_weighted_ssim",
        "WeightedSSIMLoss",
        {"alpha": 2.0, "beta": 0.6, "gamma": 1.5},
    ),
    "lwssim": ("one_minus_lwssim", "LWSSIMLoss", {}),
    "lwssim, apart": (
        "one_minus_lwssim",
        "LWSSIMLoss",
        {"window_sizes": (5, 9), "weights": (1, 3), "beta": 0.0, "gamma": 0.5},
    ),
    "ms_ssim": ("one_minus_ms_ssim", "MSSSIMLoss", {}),
    "cw_ssim": ("one_minus_cw_ssim", "CWSSIMLoss", {}),
    "cw_ssim, fine": (
        "one_minus_cw_ssim",
        "CWSSIMLoss",
        {"levels": 2, "orientations": 3, "stabilizer": 0.03},
    ),
}
every_loss = pytest.mark.parametrize("name", CASES)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Frames here are so small that threads wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def of(name):
    """Return the function of tensors, that of arrays, the module's class and options."""
    function, module, options = CASES[name]
    return (
        getattr(torch_losses, function),
        getattr(losses, function),
        getattr(torch_losses, module),
        options,
    )


def batches(*shape, seed=0, noise=0.08, dtype=torch.float64, device="cpu"):
    """Two batches from about 0 to 1: smooth frames, and the same with noise."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), (0, 0, 2, 2))
    x = 0.5 + smooth / smooth.std() / 6
    y = x + rng.normal(0, noise, shape)
    return (torch.tensor(one, dtype=dtype, device=device) for one in (x, y))


def with_gradients(function, x, y, **options):
    """Return the sum of the losses and the gradients with respect to either batch."""
    x, y = (one.clone().requires_grad_() for one in (x, y))
    value = function(x, y, **options).sum()
    value.backward()
    return value.detach(), x.grad, y.grad


class TestAgainstNumPy:
    @every_loss
    @pytest.mark.parametrize("shape", [(2, 1, 24, 31), (1, 2, 65, 70)])
    def test_values_and_gradients_are_the_same(self, name, shape):
        function, of_arrays, _, options = of(name)
        x, y = batches(*shape)
        # A frame of negative structure, and flat parts in either batch.
        y[0, 0] = 1 - y[0, 0]
        y[-1, -1, :12, :14] = 0.3
        x[-1, -1, -13:, -13:] = 0.1
        options = {"data_range": 1.0, **options}
        found = function(x, y, reduction="none", **options)
        _, by_x, by_y = with_gradients(function, x, y, reduction="sum", **options)
        assert found.shape == shape[:1]
        for image in range(shape[0]):
            expected = []
            for channel in range(shape[1]):
                frames = x[image, channel].numpy(), y[image, channel].numpy()
                value, gradient = of_arrays(*frames, **options)
                _, other = of_arrays(*frames[::-1], **options)
                expected.append(value)
                for have, want in ((by_y, gradient), (by_x, other)):
                    difference = have[image, channel].numpy() - want / shape[1]
                    assert np.abs(difference).max() < 1e-10
            assert found[image].item() == pytest.approx(np.mean(expected), abs=1e-10)

    @pytest.mark.parametrize("name", ["ms_ssim", "cw_ssim"])
    def test_with_all_scales(self, name):
        function, of_arrays, _, options = of(name)
        x, y = batches(1, 1, 161, 163)
        value, _, gradient = with_gradients(function, x, y, data_range=1.0, **options)
        expected = of_arrays(x[0, 0].numpy(), y[0, 0].numpy(), data_range=1.0, **options)
        assert value.item() == pytest.approx(expected[0], abs=1e-12)
        assert np.abs(gradient[0, 0].numpy() - expected[1]).max() < 1e-12

    @every_loss
    def test_single_precision(self, name):
        function, _, _, options = of(name)
        x, y = batches(1, 1, 48, 48)
        exact = with_gradients(function, x, y, data_range=1.0, **options)
        single = with_gradients(function, x.float(), y.float(), data_range=1.0, **options)
        for one, other in zip(single, exact, strict=True):
            assert one.dtype == torch.float32
            assert (one - other).abs().max() < 1e-4 * other.abs().max()


class TestAutograd:
    @every_loss
    def test_gradcheck(self, name):
        function, _, _, options = of(name)
        x, y = (one.requires_grad_() for one in batches(1, 1, 11, 12))
        assert torch.autograd.gradcheck(
            lambda x, y: function(x, y, data_range=1.0, reduction="none", **options),
            (x, y),
            atol=1e-7,
            rtol=1e-4,
        )

    @pytest.mark.parametrize("name", ["ssim", "1/ssim", "lwssim", "ms_ssim", "cw_ssim"])
    def test_second_derivatives(self, name):
        function, _, _, options = of(name)
        x, y = (one.requires_grad_() for one in batches(1, 1, 11, 12))
        assert torch.autograd.gradgradcheck(
            lambda x, y: function(x, y, data_range=1.0, **options),
            (x, y),
            atol=1e-5,
            rtol=1e-3,
            fast_mode=True,
        )

    @every_loss
    def test_transforms_of_functions(self, name):
        """Gradients of each image of a batch at once, as torch.func has them."""
        function, _, _, options = of(name)
        x, y = batches(3, 1, 24, 24)

        def loss(y, x):
            return function(y[None], x[None], data_range=1.0, **options)

        found = torch.func.vmap(torch.func.grad(loss))(y, x)
        _, _, expected = with_gradients(function, x, y, data_range=1.0, reduction="sum", **options)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)

    @every_loss
    def test_the_target_needs_no_gradient(self, name):
        function, _, _, options = of(name)
        x, y = batches(1, 1, 24, 24)
        y.requires_grad_()
        function(y, x, data_range=1.0, **options).backward()
        assert x.grad is None
        assert y.grad.abs().max() > 0

    @every_loss
    def test_flat_and_equal_frames_have_finite_gradients(self, name):
        function, _, _, options = of(name)
        x, _ = batches(1, 1, 24, 24, dtype=torch.float32)
        flat = torch.full_like(x, 0.3)
        for a, b in ((x, x), (x, flat), (flat, x), (flat, flat + 0.4), (flat * 0, flat * 0)):
            value, by_a, by_b = with_gradients(function, a, b, data_range=1.0, **options)
            assert torch.isfinite(value)
            assert torch.isfinite(by_a).all()
            assert torch.isfinite(by_b).all()


class TestBatches:
    @every_loss
    def test_reductions(self, name):
        function, _, _, options = of(name)
        x, y = batches(3, 2, 24, 25)
        each = function(x, y, data_range=1.0, reduction="none", **options)
        assert each.shape == (3,)
        assert function(x, y, data_range=1.0, **options) == pytest.approx(each.mean().item())
        total = function(x, y, data_range=1.0, reduction="sum", **options)
        assert total.item() == pytest.approx(each.sum().item())

    @every_loss
    def test_images_and_channels_are_independent(self, name):
        function, _, _, options = of(name)
        x, y = batches(3, 2, 24, 25)
        options = {"data_range": 1.0, "reduction": "none", **options}
        whole = function(x, y, **options)
        assert torch.allclose(function(x.flip(0), y.flip(0), **options), whole.flip(0))
        assert torch.allclose(function(x.flip(1), y.flip(1), **options), whole)
        alone = [function(x[:, [k]], y[:, [k]], **options) for k in range(2)]
        assert torch.allclose(sum(alone) / 2, whole)

    @every_loss
    def test_need_not_be_contiguous(self, name):
        function, _, _, options = of(name)
        x, y = batches(2, 2, 24, 25)
        expected = with_gradients(function, x, y, data_range=1.0, **options)
        last = [one.to(memory_format=torch.channels_last) for one in (x, y)]
        for one, other in zip(
            with_gradients(function, *last, data_range=1.0, **options), expected, strict=True
        ):
            assert torch.allclose(one, other)

    @every_loss
    @pytest.mark.parametrize("device", DEVICES)
    def test_on_every_device_there_is(self, name, device):
        function, _, _, options = of(name)
        x, y = batches(2, 1, 24, 25)
        value, _, gradient = with_gradients(
            function, x.to(device), y.to(device), data_range=1.0, **options
        )
        assert value.device.type == gradient.device.type == device
        expected = function(x, y, data_range=1.0, **options)
        assert value.item() == pytest.approx(expected.item(), abs=1e-9)


class TestPrecision:
    @every_loss
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_is_computed_in_single(self, name, dtype):
        function, _, _, options = of(name)
        x, y = batches(1, 1, 24, 24, dtype=dtype)
        value, _, gradient = with_gradients(function, x, y, data_range=1.0, **options)
        assert value.dtype == torch.float32
        assert gradient.dtype == dtype
        expected = function(x.double(), y.double(), data_range=1.0, **options)
        assert value.item() == pytest.approx(expected.item(), abs=2e-6)

    @every_loss
    def test_autocast_changes_nothing(self, name):
        function, _, _, options = of(name)
        x, y = batches(1, 1, 24, 24, dtype=torch.float32)
        expected = function(x, y, data_range=1.0, **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = function(x, y, data_range=1.0, **options)
        assert found.dtype == torch.float32
        assert found.item() == expected.item()

    def test_whole_numbers_may_be_the_target(self):
        x, y = batches(1, 1, 24, 24, dtype=torch.float32)
        target = (x * 255).clamp(0, 255).to(torch.uint8)
        found = torch_losses.one_minus_ssim(y * 255, target, data_range=255)
        expected = torch_losses.one_minus_ssim(y * 255, target.float(), data_range=255)
        assert found == expected


class TestModules:
    @every_loss
    def test_do_what_functions_do(self, name):
        function, _, module, options = of(name)
        x, y = batches(2, 1, 24, 25)
        loss = module(data_range=1.0, reduction="none", **options)
        expected = function(x, y, data_range=1.0, reduction="none", **options)
        assert torch.equal(loss(x, y), expected)
        assert isinstance(loss, torch.nn.Module)
        assert "data_range=1.0" in repr(loss)
        again = pickle.loads(pickle.dumps(loss))
        assert torch.equal(again(x, y), expected)
        assert not list(loss.parameters())
        assert not loss.state_dict()

    def test_inference_first_does_not_break_training(self):
        """What is kept from one call to the next is not made in inference mode."""
        loss = torch_losses.CWSSIMLoss(data_range=1.0, orientations=5)
        x, y = batches(1, 1, 29, 27)
        with torch.inference_mode():
            expected = loss(x.clone(), y.clone())
        _, _, gradient = with_gradients(loss, x, y)
        assert gradient.abs().max() > 0
        assert loss(x, y).item() == expected.item()

    @pytest.mark.parametrize("module", ["SSIMLoss", "LWSSIMLoss"])
    def test_a_network_learns_with_them(self, module):
        """A small convolutional network learns to take noise away."""
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 1, 3, padding=1),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        clean, noisy = batches(4, 1, 32, 32, dtype=torch.float32)
        loss = getattr(torch_losses, module)(data_range=1.0)
        course = []
        for _ in range(60):
            optimizer.zero_grad()
            value = loss(network(noisy), clean)
            value.backward()
            optimizer.step()
            course.append(value.item())
        assert course[-1] < 0.5 * course[0]
        assert course[-1] < loss(noisy, clean).item()


class TestInput:
    @every_loss
    @pytest.mark.parametrize(
        ("x", "y", "message"),
        [
            (torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 31), "two batches of one shape"),
            (torch.zeros(2, 1, 32, 32), torch.zeros(1, 1, 32, 32), "two batches of one shape"),
            (torch.zeros(32, 32), torch.zeros(32, 32), "two batches of one shape"),
            (torch.zeros(1, 1, 6, 32), torch.zeros(1, 1, 6, 32), "two batches of one shape"),
            (torch.zeros(0, 1, 32, 32), torch.zeros(0, 1, 32, 32), "two batches of one shape"),
            (
                torch.zeros(1, 1, 32, 32),
                torch.zeros(1, 1, 32, 32, dtype=torch.complex64),
                "real numbers",
            ),
            (torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32, device="meta"), "one device"),
        ],
    )
    def test_that_is_no_pair_of_batches_is_refused(self, name, x, y, message):
        function, _, _, options = of(name)
        with pytest.raises(ValueError, match=message) as caught:
            function(x, y, data_range=1.0, **options)
        assert "\n" not in str(caught.value)

    @every_loss
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"data_range": 0}, "data range above 0"),
            ({"data_range": float("nan")}, "data range above 0"),
            ({"reduction": "median"}, "mean, sum or none"),
        ],
    )
    def test_options_are_refused_when_a_module_is_made(self, name, wrong, message):
        function, _, module, options = of(name)
        options = {"data_range": 1.0, **options, **wrong}
        with pytest.raises(ValueError, match=message):
            module(**options)
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32), **options)

    @pytest.mark.parametrize(
        ("module", "wrong"),
        [
            ("WeightedSSIMLoss", {"alpha": -1}),
            ("LWSSIMLoss", {"gamma": -1}),
            ("LWSSIMLoss", {"window_sizes": [4]}),
            ("LWSSIMLoss", {"weights": [1]}),
        ],
    )
    def test_exponents_and_windows_are_too(self, module, wrong):
        with pytest.raises(ValueError, match=r"takes|exponents"):
            getattr(torch_losses, module)(data_range=1.0, **wrong)

    @every_loss
    def test_nan_gives_nan(self, name):
        function, _, _, options = of(name)
        x, y = batches(2, 1, 24, 24)
        y[0, 0, 3, 3] = float("nan")
        found = function(x, y, data_range=1.0, reduction="none", **options)
        assert torch.isnan(found[0])
        assert torch.isfinite(found[1])


class TestPeers:
    def test_ssim_and_its_gradient_are_those_of_torchmetrics(self):
        image = pytest.importorskip("torchmetrics.functional.image", reason="needs torchmetrics")
        x, y = batches(2, 1, 40, 52)

        def peer(x, y, data_range):
            _, windows = image.structural_similarity_index_measure(
                y, x, data_range=data_range, reduction="none", return_full_image=True
            )
            # It counts windows over the border as well, where frames are mirrored.
            return 1 - windows[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))

        expected = with_gradients(peer, x, y, data_range=1.0)
        found = with_gradients(torch_losses.one_minus_ssim, x, y, data_range=1.0, reduction="sum")
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-6 * other.abs().max())


# PyTorch warns of what it does itself as it traces.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ssim", "cw_ssim"])
def test_can_be_compiled(name):
    """As torch.compile traces it; what code is then made of that is not ours to test."""
    function, _, _, options = of(name)
    x, y = batches(1, 1, 33, 24)
    compiled = torch.compile(function, backend="aot_eager")
    found = with_gradients(compiled, x, y, data_range=1.0, **options)
    expected = with_gradients(function, x, y, data_range=1.0, **options)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
