"""A synthetic CT thorax: anatomy, noise as filtered back-projection leaves it, DICOM files."""

from ssimrdo.phantom.anatomy import anatomy_hu
from ssimrdo.phantom.noise import fbp_noise
from ssimrdo.phantom.settings import PhantomSettings
from ssimrdo.phantom.slices import phantom_slice_hu, reconstruction_circle
from ssimrdo.phantom.write import PhantomResult, write_phantom

__all__ = [
    "PhantomResult",
    "PhantomSettings",
    "anatomy_hu",
    "fbp_noise",
    "phantom_slice_hu",
    "reconstruction_circle",
    "write_phantom",
]
