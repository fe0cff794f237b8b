"""The routers, each a resource; a route declares, delegates and returns."""

from __future__ import annotations

from fastapi import APIRouter

from hpo_service.routes import (
    artifacts,
    catalog,
    datasets,
    health,
    leases,
    results,
    studies,
    trials,
    workers,
)

ROUTERS: dict[str, APIRouter] = {
    "studies": studies.router,
    "trials": trials.router,
    "results": results.router,
    "datasets": datasets.router,
    "catalog": catalog.router,
    "leases": leases.router,
    "artifacts": artifacts.router,
    "workers": workers.router,
    "health": health.router,
}

TAGS: list[dict[str, str]] = [
    {"name": "studies", "description": "Create a study, watch it, pause it, stop it."},
    {"name": "trials", "description": "What was tried, with learning curves; add one by hand."},
    {"name": "results", "description": "The best settings, the held-out score, plots, exports."},
    {"name": "datasets", "description": "Built-in data sets, and CSV files of your own."},
    {"name": "catalog", "description": "What can be tuned: families, metrics, samplers, pruners."},
    {"name": "leases", "description": "For workers: lease trials, report epochs, tell the end."},
    {"name": "workers", "description": "For workers: register and heartbeat."},
    {"name": "health", "description": "Is the server up?"},
]
