"""One function for each picture: a subject in, a matplotlib figure out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from hpo_service import errors
from hpo_service.plots.subject import Subject, value
from hpo_service.tables import Report

FONT_SIZE = 10
MAX_LABEL = 28
MAX_TICK = 14  # what fits between two axes, or before the colours
BEST_CURVES = 5
OTHER_CURVES = 200
SLICES_PER_ROW = 4
# More letters than this do not fit under a slice side by side.
SLICE_LETTERS = 18
COLORS = ("#1f6feb", "#d9480f", "#2b8a3e", "#9c36b5", "#c99700")
INK, LINE, GREY = "#3d444d", "#d9dee3", "#afb8c1"
STYLE: dict[Any, Any] = {
    "font.size": FONT_SIZE,
    # A parameter may be called $x$: names are shown as they are, never typeset.
    "text.parse_math": False,
    "svg.hashsalt": "hpo",
}


def finish(figure: Any, title: str) -> None:
    """One look for all: white ground, a light grid behind, text that can be read."""
    figure.suptitle(short(title, 80), x=0.02, ha="left", size=FONT_SIZE + 2, weight="bold")
    for axes in figure.axes:
        axes.set(facecolor="white", axisbelow=True)
        axes.tick_params(labelsize=FONT_SIZE - 1, colors=INK)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set(size=FONT_SIZE, color=INK)
            if axis.get_scale() == "log":
                _label_log(axis)
        for spine in axes.spines.values():
            spine.set_color(LINE)


def optimization_history(subject: Subject) -> Any:
    """Each completed trial's value, and the best so far."""
    axes = _optuna("plot_optimization_history")(
        subject.study, target=subject.target, target_name=short(subject.metric)
    )
    axes.figure.set_size_inches(8, 4.5)
    axes.set_title("")
    axes.grid(True, color=LINE)
    _whole(axes.xaxis)
    low, high = _limits(subject, [value(trial) for trial in subject.trials])
    beyond = sum(not low <= value(trial) <= high for trial in subject.trials)
    axes.set(ylim=(low, high), xlabel=f"Trial ({beyond} off the scale)" if beyond else "Trial")
    axes.collections[0].set(color=COLORS[0], label="completed trial")
    for best in axes.lines:
        best.set(drawstyle="steps-post", color=COLORS[1], alpha=1, label="best so far")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    return axes.figure


def learning_curves(subject: Subject) -> Any:
    """The best trials' curves, mean and folds, before those of the others."""
    from matplotlib import pyplot as plt

    best = sorted(subject.trials, key=subject.loss)[:BEST_CURVES]
    found = subject.curves(best)
    if all(len(curve) < 2 for curve in found):
        raise errors.WrongState("Learning curves: no trial has reported more than one step.")
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    _draw_others(axes, subject, best)
    epochs = subject.epochs(best)
    for trial, epoch, curve, color in zip(best, epochs, found, COLORS, strict=False):
        label = f"trial {trial.number}: {value(trial):.4g}"
        _draw_curve(axes, curve, color, label=label, epoch=epoch)
    axes.set(xlabel="Step (finished epochs)", ylabel=short(subject.metric))
    axes.set_ylim(*_limits(subject, [v for curve in found for p in curve for v in _finite(p)]))
    axes.grid(True, color=LINE)
    _whole(axes.xaxis)
    title = "Best trials: mean (dot: scored),\nthin: each fold; grey: other trials"
    figure.legend(loc="outside right center", frameon=False, title=title, alignment="left")
    return figure


def learning_curve(subject: Subject) -> Any:
    """Training and cross-validated score over the rows trained on, with their spread over folds."""
    from matplotlib import pyplot as plt

    points = subject.shares()
    if len(points) < 2:
        raise errors.WrongState("Learning curve: at least two shares of the rows are needed.")
    known = [point.rows for point in points if point.rows is not None]
    counted = len(known) == len(points)
    at = known if counted else [point.share for point in points]
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    trained = [(_number(point.train), point.train_folds) for point in points]
    _draw_spread(axes, at, trained, COLORS[1], "rows trained on")
    scored = [(point.value, point.folds) for point in points]
    _draw_spread(axes, at, scored, COLORS[0], "rows not shown (cross-validated)")
    rows = "Rows trained on" if counted else "Share of the training rows"
    axes.set(xlabel=rows, ylabel=short(subject.metric))
    axes.grid(True, color=LINE)
    title = "Mean, and standard deviation over the folds"
    figure.legend(loc="outside lower center", frameon=False, ncols=2, title=title)
    return figure


def param_importances(subject: Subject) -> Any:
    """A bar for each parameter.

    Drawn here: Optuna's picture of several values takes less for better in each of them.
    """
    from matplotlib import pyplot as plt

    found = subject.importances()
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.36 * len(found)), layout="constrained")
    bars = axes.barh(range(len(found)), list(found.values()), height=0.7, color=COLORS[0])
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=FONT_SIZE - 1, color=INK)
    axes.set_yticks(range(len(found)), [short(name) for name in found])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("Share of what the parameters tell about being among the best")
    axes.grid(True, axis="x", color=LINE)
    return figure


def parallel_coordinate(subject: Subject) -> Any:
    """A line for each completed trial through its values and parameters."""
    subject.require_params()
    axes = _optuna("plot_parallel_coordinate")(subject.study, target_name=subject.metric)
    shown = [label.get_text() for label in axes.get_xticklabels()]
    names = [*subject.metrics, *shown[len(subject.metrics) :]]
    axes.figure.set_size_inches(max(8, 1.45 * len(names)), 5)
    axes.set_title("")
    axes.grid(False)
    axes.set_xticks(axes.get_xticks(), [short(name) for name in names], rotation=20)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    # Beside the first axis and the colours there is one axis for each further name.
    for name, twin in zip(names[1:], axes.figure.axes[2:], strict=True):
        _finish_twin(twin.yaxis, whole=name in subject.whole)
    return axes.figure


def slices(subject: Subject) -> Any:
    """The value over each parameter, coloured by the trial's number."""
    subject.require_params()
    found = _optuna("plot_slice")(
        subject.study, target=subject.target, target_name=short(subject.metric)
    )
    panels = list(getattr(found, "flat", [found]))
    figure = panels[0].figure
    # Optuna puts all panels into one row, which no page is wide enough for.
    columns = min(SLICES_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure.set_size_inches(max(8, 3 * columns), 1 + 2.6 * rows)
    figure.set_layout_engine("constrained")
    grid = figure.add_gridspec(rows, columns)
    limits = _limits(subject, [value(trial) for trial in subject.trials])
    for position, panel in enumerate(panels):
        row, column = divmod(position, columns)
        panel.set_subplotspec(grid[row, column])
        panel.set(title="", ylim=limits, ylabel="" if column else short(subject.metric))
        panel.tick_params(labelleft=column == 0)
        panel.grid(True, color=LINE)
        _finish_slice(panel, subject)
    points = panels[-1].collections[0]
    points.colorbar.remove()
    figure.colorbar(points, ax=panels, label="Trial", aspect=40)
    return figure


# --- parts ----------------------------------------------------------------------------------


def _draw_others(axes: Any, subject: Subject, best: Sequence[FrozenTrial]) -> None:
    chosen = {trial.number for trial in best}
    trials = subject.study.get_trials(deepcopy=False)
    others = [trial for trial in trials if trial.number not in chosen][-OTHER_CURVES:]
    for curve in subject.curves(others, values_only=True):
        means = [_number(point.values[0]) for point in curve]
        axes.plot([point.step for point in curve], means, color=GREY, linewidth=0.6)


def _draw_curve(
    axes: Any, curve: Sequence[Report], color: str, *, label: str, epoch: int | None
) -> None:
    steps = [point.step for point in curve]
    means = [_number(point.values[0]) for point in curve]
    folds = [[_number(stored) for stored in _folds(point)] for point in curve]
    if len({len(fold) for fold in folds}) == 1 and folds[0]:
        axes.plot(steps, folds, color=color, linewidth=0.5, alpha=0.45)
    axes.plot(steps, means, color=color, linewidth=1.8, label=label)
    if epoch in steps:
        axes.plot(epoch, means[steps.index(epoch)], "o", color=color, markersize=5)


def _draw_spread(
    axes: Any,
    at: Sequence[float],
    scored: Sequence[tuple[float, Sequence[float | None]]],
    color: str,
    label: str,
) -> None:
    """Means, each with the values of its folds, as a line and a band."""
    means = [mean for mean, _ in scored]
    known = [[each for each in folds if each is not None] for _, folds in scored]
    spread = [statistics.stdev(folds) if len(folds) > 1 else 0.0 for folds in known]
    axes.plot(at, means, "o-", color=color, linewidth=1.8, markersize=5, label=label)
    below = [mean - each for mean, each in zip(means, spread, strict=True)]
    above = [mean + each for mean, each in zip(means, spread, strict=True)]
    axes.fill_between(at, below, above, color=color, alpha=0.15, linewidth=0)


def _folds(point: Report) -> list[float | None]:
    """Each fold's first value at a step; none where an Optuna client reported."""
    return list(point.folds[0]) if point.folds else []


def _finite(point: Report) -> list[float]:
    found = [_number(stored) for stored in (point.values[0], *_folds(point))]
    return [number for number in found if math.isfinite(number)]


def _number(stored: float | None) -> float:
    return math.nan if stored is None else stored


def _finish_twin(axis: Any, *, whole: bool) -> None:
    from matplotlib.ticker import FixedLocator

    if isinstance(axis.get_major_locator(), FixedLocator):  # its ticks are names
        texts = [short(label.get_text(), MAX_TICK) for label in axis.get_ticklabels()]
        axis.set_ticks(axis.get_ticklocs(), texts)
    elif whole:
        _whole(axis)
    for label in axis.get_ticklabels():
        label.set_bbox({"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1})


def _finish_slice(panel: Any, subject: Subject) -> None:
    panel.collections[0].set(cmap="viridis_r", edgecolor="none", sizes=[22])
    name = panel.get_xlabel()
    panel.set_xlabel(short(name))
    if name in subject.whole:
        _whole(panel.xaxis)
    if name in subject.categorical:
        # Optuna labels with Python's repr of a choice.
        labels = [short(text.get_text().strip("'")) for text in panel.get_xticklabels()]
        tilted = sum(map(len, labels)) > SLICE_LETTERS
        panel.set_xticks(
            range(len(labels)), labels, rotation=25 * tilted, ha="right" if tilted else "center"
        )
        panel.set_xlim(-0.5, len(labels) - 0.5)


def _limits(subject: Subject, values: Sequence[float]) -> tuple[float, float]:
    """From the best value to the worst that is not too far off to be shown with the others.

    Far off is beyond Tukey's outer fence (1977) on the worse side.
    """
    sign = -1.0 if subject.maximized else 1.0
    losses = sorted(sign * shown for shown in values)
    best, quartile = losses[0], losses[3 * (len(losses) - 1) // 4]
    fence = quartile + 3 * (quartile - best)
    worst = max(loss for loss in losses if loss <= fence)
    margin = 0.05 * (worst - best) or 0.05 * abs(best) or 0.05
    low, high = sorted((sign * (best - margin), sign * (worst + margin)))
    return low, high


def _label_log(axis: Any) -> None:
    from matplotlib.ticker import LogLocator

    low, high = sorted(axis.get_view_interval())
    if high < 30 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda shown, _: f"{shown:g}")
    axis.set_minor_formatter("")


def _whole(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def short(text: str, most: int = MAX_LABEL) -> str:
    """The text, cut where it would not fit beside the others."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _optuna(name: str) -> Callable[..., Any]:
    """A function of optuna.visualization, without the warning that it is experimental."""
    from optuna.visualization import matplotlib as visualization

    # Warning filters are the whole process's, so that silencing them would meddle with others.
    return getattr(visualization, name).__wrapped__  # type: ignore[no-any-return]
