"""Lets `python -m pacsnode` run the command."""

from pacsnode.cli import main

main()
