"""The data sets that scikit-learn carries in its package: real data, no network needed."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service import protocol
from hpo_service.datasets.table import Table


@dataclass(frozen=True)
class Builtin:
    """A data set of scikit-learn: its loader's name, and what the loader does not say."""

    description: str
    loader: str
    target: str
    task: protocol.Task = "classification"
    shape: list[int] | None = None

    def load(self) -> Table:
        """The rows, in scikit-learn's order."""
        import numpy as np
        from sklearn import datasets

        bunch = getattr(datasets, self.loader)()
        classification = self.task == "classification"
        schema = protocol.DatasetSchema(
            task=self.task,
            rows=len(bunch.data),
            columns=[protocol.Column(name=str(n), kind="numeric") for n in bunch.feature_names],
            target=[self.target],
            classes=[str(name) for name in bunch.target_names] if classification else [],
            shape=self.shape,
        )
        return Table(
            schema=schema,
            numeric=bunch.data.astype(np.float64),
            categorical=np.empty((len(bunch.data), 0), np.int32),
            target=bunch.target.astype(np.int64 if classification else np.float64),
        )


DATASETS: dict[str, Builtin] = {
    "digits": Builtin(
        "Handwritten digits: 1,797 images of 8x8 pixels, 10 classes.",
        "load_digits",
        "digit",
        shape=[1, 8, 8],
    ),
    "iris": Builtin("Fisher's irises: 150 flowers, 4 measures, 3 species.", "load_iris", "species"),
    "wine": Builtin("Chemistry of 178 wines: 13 measures, 3 cultivars.", "load_wine", "cultivar"),
    "breast_cancer": Builtin(
        "569 breast masses: 30 measures of their cells, malignant or benign.",
        "load_breast_cancer",
        "diagnosis",
    ),
    "diabetes": Builtin(
        "442 diabetes patients: 10 measures, progression after a year (regression).",
        "load_diabetes",
        "progression",
        task="regression",
    ),
}
