"""`python -m tesk` is the `tesk` command."""

from tesk.cli import program

program()
