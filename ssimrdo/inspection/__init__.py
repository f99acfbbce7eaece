"""Where the bits go in one slice: what the objective and the encoder make of every macroblock."""

from ssimrdo.inspection.inspect import Inspection, inspect_slice
from ssimrdo.inspection.maps import Quantity, SliceMaps, quantities, slice_maps
from ssimrdo.inspection.output import check_output, write_inspection

__all__ = [
    "Inspection",
    "Quantity",
    "SliceMaps",
    "check_output",
    "inspect_slice",
    "quantities",
    "slice_maps",
    "write_inspection",
]
