"""The command line: ``ssimrdo COMMAND``; one file per command."""

from ssimrdo.cli.main import main

__all__ = ["main"]
