"""Encoding: settings, the loop over slices, the search for a quality, verification."""
