"""Losses of the SSIM family with their gradients, for optimisation in NumPy and PyTorch."""
