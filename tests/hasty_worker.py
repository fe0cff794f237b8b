"""`python -m tests.hasty_worker`: a worker that sends its checkpoints several times a second."""

from __future__ import annotations

import sys

from workers import outbox
from workers.__main__ import main

if __name__ == "__main__":
    outbox.CHECKPOINT_SECONDS = 0.2
    sys.exit(main())
