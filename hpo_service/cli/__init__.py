"""The command `hpo`: run the service, and talk to it."""

from __future__ import annotations

import sys

INTERRUPTED = 130  # what a shell gives to a command that Ctrl-C ended


def main() -> None:
    """Run a command and exit."""
    try:
        # Loaded here, so that Ctrl-C while it loads is no traceback either.
        from hpo_service.cli.commands import app

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
