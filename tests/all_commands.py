"""The command ``audit`` with all that is below it made, for a process that forks others which run it."""

from audit_core.cli.app import all_commands

for of_one_trail in (False, True):
    all_commands(of_one_trail=of_one_trail)
