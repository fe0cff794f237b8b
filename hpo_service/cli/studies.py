"""`hpo study ...` and `hpo trial ...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import ValidationError

from hpo_service import errors, protocol
from hpo_service.cli import live, options, results
from hpo_service.cli.frame import DEFAULT_URL, Group, Token, Url, connect, console
from hpo_service.client import Client

LEADERS = 5
Checked = TypeVar("Checked", bound=protocol.Model)

studies = typer.Typer(cls=Group, help="Create studies, follow them, end them.")
trials = typer.Typer(cls=Group, help="Add trials of your own to a study.")

Study = Annotated[str, typer.Argument(metavar="STUDY", help="Its name or its id.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="May be given several times."),
]


@studies.command(
    epilog="Example: hpo study create --name my-digits --model mlp --dataset digits --trials 30"
)
def create(
    file: Annotated[
        typer.FileText | None,
        typer.Argument(metavar="FILE", help="The study as JSON, - for standard input."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    model: Annotated[str | None, typer.Option(help="Model family, such as mlp.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set to learn.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric to optimise.")] = None,
    params: Params = None,
    trials: Annotated[int | None, typer.Option(help="Budget: trials in all.")] = None,
    seconds: options.Seconds = None,
    good_enough: options.GoodEnough = None,
    no_gain: options.NoGain = False,
    sampler: Annotated[str | None, typer.Option(help="auto, tpe, gp, random, grid ...")] = None,
    pruner: Annotated[str | None, typer.Option(help="none, racing, asha, median ...")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all its randomness.")] = None,
    validation: options.Method = None,
    folds: options.Folds = None,
    repeats: options.Repeats = None,
    share: options.Share = None,
    stratify: options.Stratify = None,
    holdout: options.Holdout = None,
    baseline: options.Baseline = None,
    select: options.Select = None,
    serve: options.Serve = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Create a study, from a JSON file, from options, or from a file that options overrule.

    --param fixes a hyperparameter; what is neither fixed nor in the file's search_space is
    searched within the family's default space.
    """
    spec = read_spec(file) if file else {"objective": {"kind": "train"}}
    given = {
        "name": name,
        "objective.model": model,
        "objective.dataset": dataset,
        "objective.metrics": metric or None,
        "objective.validation.method": validation,
        "objective.validation.folds": folds,
        "objective.validation.repeats": repeats,
        "objective.validation.share": share,
        "objective.validation.stratify": stratify,
        "objective.holdout": holdout,
        "objective.serve": serve,
        "objective.baselines": False if baseline == ["none"] else baseline or None,
        "select": select,
        "sampler.name": sampler,
        "pruner.name": pruner,
        "budget.trials": trials,
        "budget.seconds": seconds,
        "budget.target": good_enough,
        "budget.no_gain": no_gain or None,
        "seed": seed,
        **{f"objective.params.{key}": value for key, value in parsed_params(params).items()},
    }
    for path, value in given.items():
        if value is not None:
            put(spec, path, value)
    with connect(url, token) as client:
        study = client.create_study(checked(protocol.StudySpec, spec))
        console().print(f"Created study {study.name} (id {study.id}).", markup=False)
        if study.spec and isinstance(study.spec.objective, protocol.CustomObjective):
            started = protocol.worker_command(study.spec.objective.name)
            console().print(f"Its trials wait for workers: {started}", markup=False)
        if watch:
            follow(client, [study.name])


@studies.command("list", epilog="Example: hpo study list")
def list_studies(url: Url = DEFAULT_URL, token: Token = "") -> None:
    """List all studies, with their state and best value."""
    with connect(url, token) as client:
        console().print(results.studies_table(all_studies(client)))


@studies.command(epilog="Example: hpo study show my-digits")
def show(
    study: Study,
    top: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Trials to show.")
    ] = LEADERS,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Show a study: its best trials, and the final result once there is one."""
    out = console()
    with connect(url, token) as client:
        found = client.study(study)
        out.print(results.studies_table([found]))
        out.print(*results.remarks(found), sep="\n", markup=False)
        best = best_trials(client, found, top)
        if best:
            out.print(*results.leaderboard(found, best))
        final = client.final(study)
        if final.state != "none":
            results.print_final(out, final)
            results.print_diagnosis(out, client.diagnosis(study))


@studies.command(epilog="Example: hpo study watch my-digits")
def watch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="STUDY...", help="All that have not finished, where none is named."),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Follow studies until they have finished: best value, pace and time left."""
    with connect(url, token) as client:
        names = names or [s.name for s in all_studies(client) if s.state != "finished"]
        if names:
            follow(client, names)
        else:
            console().print("Nothing to watch: all studies have finished.")


@studies.command(
    "learning-curve", epilog="Example: hpo study learning-curve my-digits --repeats 3 --watch"
)
def learning_curve(
    study: Study,
    share: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SHARE", help="Of the training rows, several times. [default: 0.1 to 1]"
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Repeats of the folds.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """What would more data bring? Train the winner on more and more of the rows; again: show it."""
    given = {"shares": share or None, "repeats": repeats}
    asked = checked(
        protocol.LearningCurveSpec, {k: value for k, value in given.items() if value is not None}
    )
    with connect(url, token) as client:
        try:
            made = client.create_learning_curve(study, asked)
            console().print(f"Created study {made.name} (id {made.id}).", markup=False)
        except errors.NameTaken:
            if share or repeats:
                raise
        if watch:
            follow(client, [client.learning_curve(study).study])
        found = client.learning_curve(study)
        if found.points:
            console().print(results.learning_curve_table(found))


@studies.command(epilog="Example: hpo study pause my-digits")
def pause(study: Study, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """Hand out no further trials; those that run go on to their end."""
    change_state(study, "paused", url, token)


@studies.command(epilog="Example: hpo study resume my-digits")
def resume(study: Study, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """Go on with a paused study."""
    change_state(study, "running", url, token)


@studies.command(epilog="Example: hpo study stop my-digits")
def stop(study: Study, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """End the search now; the best trial so far is refitted and scored."""
    change_state(study, "finished", url, token)


@studies.command(epilog="Example: hpo study delete my-digits --yes")
def delete(
    study: Study,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Delete a study with all its trials, for good."""
    with connect(url, token) as client:
        found = client.study(study)
        if not yes and not confirmed(f"Delete {found.name} and its {found.n_trials} trials?"):
            raise typer.Abort
        client.delete_study(study)
    console().print(f"Deleted study {found.name}.", markup=False)


@studies.command(epilog="Example: hpo study export my-digits --output trials.csv")
def export(
    study: Study,
    form: Annotated[Literal["csv", "json"], typer.Option("--format", help="Kind of file.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. [default: screen]")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Write all trials of a study as CSV or JSON."""
    with connect(url, token) as client:
        data = client.trials_csv(study) if form == "csv" else trials_json(client, study)
    if output:
        output.write_bytes(data)
    else:
        sys.stdout.write(data.decode())


@studies.command(epilog="Example: hpo study files my-faces --save samples.png")
def files(
    study: Study,
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write this one to a file of its name.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """List what a finished study left: its model, predictions, samples; or save one of them."""
    with connect(url, token) as client:
        if save is None:
            console().print(results.artifacts_table(client.final_artifacts(study).artifacts))
            return
        known = [each.name for each in client.final_artifacts(study).artifacts]
        if save not in known:
            raise errors.NotFound(f"There is no {save!r}: {', '.join(known) or 'nothing'} yet.")
        Path(save).write_bytes(client.final_artifact(study, save))
    console().print(f"Wrote {save}.", markup=False)


@trials.command(epilog="Example: hpo trial add my-digits --param learning_rate=0.05")
def add(study: Study, params: Params = None, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """Have a setting of your own evaluated, once and before any sampled one.

    Parameters of the search space that are not given are sampled.
    """
    with connect(url, token) as client:
        trial = client.add_trial(study, protocol.ManualTrial(params=parsed_params(params)))
    console().print(f"Added trial {trial.number}.")


def read_spec(file: typer.FileText) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        spec = json.load(file)
    except ValueError as error:
        raise errors.BadRequest(f"{file.name} is not JSON: {error}") from None
    if not isinstance(spec, dict):
        raise errors.BadRequest(f"{file.name} must hold one JSON object, a study.")
    return spec


def checked(kind: type[Checked], spec: dict[str, Any]) -> Checked:
    """What is to be sent, or the error the server would answer."""
    try:
        return kind.model_validate_json(json.dumps(spec))
    except ValidationError as error:
        # Loaded here: it brings the web framework.
        from fastapi.exceptions import RequestValidationError

        from hpo_service.problems import invalid_request

        found = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise invalid_request(RequestValidationError(found, body=spec)) from None


def parsed_params(params: list[str] | None) -> dict[str, Any]:
    """`NAME=VALUE` pairs: a value that is JSON is read as such, all else is text."""
    parsed = {}
    for pair in params or ():
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--param")
        try:
            parsed[name] = json.loads(text)
        except ValueError:
            parsed[name] = text
    return parsed


def put(spec: dict[str, Any], path: str, value: object) -> None:
    """Set `spec["a"]["b"] = value` for the path `a.b`."""
    *parents, last = path.split(".")
    for parent in parents:
        spec = spec.setdefault(parent, {})
        if not isinstance(spec, dict):
            raise errors.invalid(parent, "must be a JSON object")
    spec[last] = value


def all_studies(client: Client) -> list[protocol.Study]:
    """All pages of the listing."""
    page = client.studies()
    found = list(page.studies)
    while page.next is not None:
        page = client.studies(after=page.next)
        found += page.studies
    return found


def all_trials(client: Client, study: str) -> Iterator[protocol.Trial]:
    """All pages of a study's trials, by number."""
    after: int | None = None
    while True:
        page = client.trials(study, after=after)
        yield from page.trials
        after = page.next
        if after is None:
            return


def best_trials(client: Client, study: protocol.Study, top: int) -> list[protocol.Trial]:
    """The best complete trials, best first."""
    order = "desc" if study.directions[0] == "maximize" else "asc"
    page = client.trials(study.id, state="complete", sort="value", order=order, limit=top)
    return page.trials


def trials_json(client: Client, study: str) -> bytes:
    """All trials as a JSON list, one line each."""
    lines = ",\n".join(trial.model_dump_json() for trial in all_trials(client, study))
    return f"[\n{lines}\n]\n".encode()


def follow(client: Client, names: list[str]) -> None:
    """The live view, until all have finished."""
    live.watch(client, names, console())


def change_state(
    study: str, state: Literal["running", "paused", "finished"], url: str, token: str
) -> None:
    """Ask for another state and say which one there is."""
    with connect(url, token) as client:
        changed = client.patch_study(study, protocol.StudyPatch(state=state))
    console().print(f"Study {changed.name} is {changed.state}.", markup=False)


def confirmed(question: str) -> bool:
    """Ask on a terminal; elsewhere nobody can answer."""
    if not sys.stdin.isatty():
        raise errors.BadRequest("Nobody can be asked here: repeat the command with --yes.")
    return typer.confirm(question)
