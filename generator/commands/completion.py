"""`halfhour completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, ShellComplete, get_completion_class

from ..console import here
from ._common import Verb


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script of a shell.

    \b
    bash   eval "$(halfhour completion bash)"      in ~/.bashrc
    zsh    eval "$(halfhour completion zsh)"       in ~/.zshrc
    fish   halfhour completion fish > ~/.config/fish/completions/halfhour.fish
    """
    kind = _Bash if shell == "bash" else get_completion_class(shell)
    assert kind is not None
    script: ShellComplete = kind(ctx.find_root().command, {}, "halfhour", "_HALFHOUR_COMPLETE")
    here().out(script.source().rstrip("\n"))
    return 0


class _Bash(BashComplete):
    """Click's own, without asking for the bash of this machine: it is printed, not run."""

    @staticmethod
    def _check_version() -> None:
        return
