"""Writing of DICOM: CT series from decoded slices, and video as a DICOM object."""
