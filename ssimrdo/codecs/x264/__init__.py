"""x264, in-process: search, options, steering, and the library itself."""
