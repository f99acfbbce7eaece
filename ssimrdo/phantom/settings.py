"""What decides every pixel of the phantom."""

from __future__ import annotations

from dataclasses import dataclass

from ssimrdo.errors import InputError

MAX_SLICES = 5000
MIN_SIZE, MAX_SIZE = 64, 1024


@dataclass(frozen=True)
class PhantomSettings:
    """Settings of a phantom series.

    Attributes
    ----------
    slices : int
        Number of slices, 1 to 5000; does not change the content of any one slice.
    size : int
        Rows and columns, 64 to 1024.
    seed : int
        Seed of anatomy and noise, not negative.
    slice_spacing_mm : float
        Distance between slices and slice thickness in mm.
    field_of_view_mm : float
        Side of the image and diameter of the reconstructed circle in mm.
    noise_hu : float
        Root mean square noise in soft tissue in HU.

    Raises
    ------
    InputError
        If a value is outside its range.
    """

    slices: int = 60
    size: int = 512
    seed: int = 0
    slice_spacing_mm: float = 1.25
    field_of_view_mm: float = 360.0
    noise_hu: float = 14.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        checks = (
            ("slices", 1 <= self.slices <= MAX_SLICES, f"1 to {MAX_SLICES}"),
            ("size", MIN_SIZE <= self.size <= MAX_SIZE, f"{MIN_SIZE} to {MAX_SIZE} pixels"),
            ("seed", 0 <= self.seed < 2**63, "0 or more"),
            ("slice_spacing_mm", 0.1 <= self.slice_spacing_mm <= 20, "0.1 to 20 mm"),
            ("field_of_view_mm", 50 <= self.field_of_view_mm <= 500, "50 to 500 mm"),
            ("noise_hu", 0 <= self.noise_hu <= 200, "0 to 200 HU"),
        )
        for name, good, allowed in checks:
            if not good:
                raise InputError(
                    f"phantom {name}: {getattr(self, name)} is out of range",
                    remedy=f"choose {allowed}",
                )

    @property
    def pixel_mm(self) -> float:
        """Side of a pixel in mm."""
        return self.field_of_view_mm / self.size
