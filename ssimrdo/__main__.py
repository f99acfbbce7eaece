"""``python -m ssimrdo``."""

from ssimrdo.cli import main

main()
