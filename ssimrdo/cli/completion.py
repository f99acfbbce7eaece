"""``ssimrdo completion``: what makes a shell complete commands, options and values."""

from __future__ import annotations

import click

from ssimrdo.cli.terminal import show

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """\b
Examples:
  ssimrdo completion bash > ~/.local/share/bash-completion/completions/ssimrdo
  ssimrdo completion zsh > ~/.zfunc/_ssimrdo
  ssimrdo completion fish > ~/.config/fish/completions/ssimrdo.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete ssimrdo's commands, options and values.

    Save it where the shell looks for such scripts, or have the shell evaluate it when it starts.
    """
    from click.shell_completion import get_completion_class

    program = context.find_root()
    name = program.info_name or "ssimrdo"
    completer = get_completion_class(shell)
    assert completer is not None, "click knows it"
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    show(completer(program.command, {}, name, variable).source())
