"""A group of commands one of which needs no name: what names no command is its arguments."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultCommandGroup(TyperGroup):
    """A group whose command `default_command` is meant where no other is named."""

    default_command = "shared"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the name of the command that is meant before arguments that begin with no name."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default_command, *args]
        return list(super().parse_args(ctx, args))
