"""x265 through its own API: HEVC that follows an objective."""
