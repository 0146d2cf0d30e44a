"""`python -m keepstone`: the command line without its script."""

from keepstone.cli.main import main

main()
