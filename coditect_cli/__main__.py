"""`python -m coditect_cli`."""

from coditect_cli.main import entry

entry()
