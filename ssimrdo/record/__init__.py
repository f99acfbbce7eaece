"""The record of an encode: its result, and the sidecar beside the video."""
