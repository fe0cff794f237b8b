"""Our tables pass Optuna's own contract for storages, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from hpo_service.database import Database
from hpo_service.storage import Storage


class TestOptunaContract(StorageTestCase):
    @pytest.fixture
    def storage(self, database_url: str) -> Iterator[Storage]:
        # The real clock: the suite compares times with its own.
        database = Database(database_url)
        yield Storage(database)
        database.close()
