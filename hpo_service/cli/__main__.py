"""`python -m hpo_service.cli`, the same as `hpo`."""

from __future__ import annotations

from hpo_service.cli import main

main()
