"""Video files: writing packets into containers, decoding them again, and what is in them."""
