"""One training run: from a data set to a saved model, with nothing to choose and everything to change."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import shlex
import sys
from collections.abc import Callable
from typing import Any

from ..arguments import printable
from ..backend import Backend, get_backend
from ..data.audit import leaks
from ..data.columns import plural
from ..distributed import Group, together
from ..distributed.group import words_of
from ..errors import XpnnError
from ..report import check_requirements, collect_evidence, read_run, write_report
from ..staging import Staging
from ..tabular.fit import own_score
from .course import Course, Ending, OneNetwork
from .interrupts import status_of, word_of
from .options import finite, in_options, print_json
from .problem import Problem, read_problem
from .ranks import group_of, own_folder, run_on_ranks
from .results import FILES, check_folder, machine, report_baselines, report_scores, superseded, write_results
from .resume import NO_SETTINGS, Job, changed_versions, check_data, find_job, new_plan
from .system import versions
from .tables import Networks, TableProblem, read_table_problem

__all__ = ["run_job", "run_train"]


OfTable = Callable[[argparse.Namespace, TableProblem, str | Backend], Course]


def run_train(args: argparse.Namespace) -> int:
    """Train, score and save; or go on with a run that was cut short."""
    return run_on_ranks(args, run_job)


def run_job(args: argparse.Namespace, of_table: OfTable | None = None) -> int:
    """Train in a way that may be one for tables, score and save; or go on with a run that was cut short."""
    group = group_of(args)
    for rank in range(group.size):  # one after the other: they look at the same folder
        with together(group):
            if rank == group.rank:
                job = find_job(args)
    if job.finished is not None:
        return _tell_finished(job)
    with contextlib.chdir(job.cwd), own_folder(group, job.out) as out:
        return _train(job._replace(out=out), of_table, group)


def _train(job: Job, of_table: OfTable | None, group: Group) -> int:
    with together(group):
        course, problem, notes = _prepare(job, of_table)
        check_folder(job.out)
    with Staging(job.out) as staging:
        try:
            with together(group):
                _begin(job, staging, course)
            sys.stdout.flush()  # so that a log file shows what is decided before training begins
            ending = course.fit(staging.plan or {})
            return ending.status if group.rank else _conclude(job, staging, course, problem, notes, ending)
        except BaseException as error:
            if not isinstance(error, XpnnError):  # which all have, or were told
                group.fail(words_of(error))
            if not course.worth_keeping():
                staging.discard()
            raise


def _prepare(job: Job, of_table: OfTable | None) -> tuple[Course, Problem, list[str]]:
    """Read the data, and return what trains on them, the problem, and notes of what was decided."""
    settings = job.settings
    if settings.report:
        check_requirements("--report")
    if job.plan is not None:
        check_data(settings, job.plan["data"])
    spec = settings.backend if job.plan is None else job.plan["backend"]
    # "auto" waits for the size of the network; a wrong name does not wait.
    backend: str | Backend = "auto" if spec == "auto" else get_backend(spec, settings.dtype)
    notes: list[str] = []

    def note(*texts: str) -> None:
        """Keep what is decided for the files, and print it at once unless JSON is to be printed alone."""
        notes.extend(texts)
        if texts and not settings.json:
            print(*map(printable, texts), sep="\n")

    note(*(changed_versions(job.plan) if job.plan is not None else ()))
    course: Course
    if settings.preset:
        given = read_table_problem(settings, note)
        problem, course = given.problem, (of_table or Networks)(settings, given, backend)
    else:
        problem = read_problem(settings, note)
        course = OneNetwork(settings, problem, backend)
    note(course.summary)
    return course, problem, notes


def _begin(job: Job, staging: Staging, course: Course) -> None:
    """Note what is begun, and begin it, or go on where the run was cut short."""
    settings = job.settings
    if job.plan is None:
        if staging.plan is not None and not settings.json:
            print("the unfinished run in this folder is given up; --resume would have gone on with it")
        if (job.out / "scores.json").is_file() and not settings.json:
            print(f"the run that is in {printable(str(job.out))} stays until this one has ended, which replaces it")
        staging.clear()
    staging.start(job.plan or new_plan(settings, course.backend.spec))
    if course.begin(staging) and not settings.json:
        print(f"going on after {len(course.history)} epochs")


# -- results ----------------------------------------------------------------------------------------------------
def _conclude(job: Job, staging: Staging, course: Course, problem: Problem, notes: list[str], ending: Ending) -> int:
    """Score, write and tell what came out, and return the exit status; nothing is lost if that fails."""
    settings = job.settings
    if not course.worth_keeping():
        staging.discard()
        print(f"{ending.why} in the first epoch: nothing is saved", file=sys.stderr)
        return ending.status
    try:
        with settings.signals.held():
            if ending.resumable:
                ending = ending._replace(resumable=_kept(settings, course))
            if ending.status and not len(course.history):
                told = f"go on with xpnn {settings.command} --resume {job.out}"
                print(f"{ending.why} {ending.at}: {told}", file=sys.stderr)
                return ending.status
            _finish(job, staging, course, problem, notes, ending)
    except BaseException:
        if not (ending.resumable or staging.committed) and _kept(settings, course):
            staging.start({**(staging.plan or {}), "ended": ending._replace(status=0)._asdict()})
        raise
    pending = settings.signals.pending
    if pending is not None:
        print(f"{word_of(pending)}: the results are written", file=sys.stderr)
    return ending.status or (0 if pending is None else status_of(pending))


def _kept(settings: argparse.Namespace, course: Course) -> bool:
    """Write the checkpoint, and tell whether that was possible: it is worth less than the results."""
    try:
        course.keep()
    except (XpnnError, OSError) as error:
        told = f"{in_options(str(error))} There is no checkpoint to go on from."
        print(f"xpnn {settings.command}: {told}", file=sys.stderr)
        return False
    return True


def _facts(
    args: argparse.Namespace, course: Course, problem: Problem, notes: list[str], ending: Ending
) -> dict[str, Any]:
    """Return what a model file keeps of its training."""
    chosen = course.chosen()
    filled = {name: value for name, value in chosen.items() if getattr(args, name, True) is None}
    return {
        "source": args.source,
        "target": problem.source.target_name,
        **({} if (table := problem.source.table) is None else {"columns": table.names, "header": table.header}),
        "epochs": len(course.history),
        "seconds": round(ending.seconds, 3),
        "stopped": ending.why,
        "best_epoch": ending.best_epoch,
        "options": {k: v for k, v in {**vars(args), **filled}.items() if k not in NO_SETTINGS and v is not None},
        "notes": notes,
        **({} if problem.findings is None else {"audit": finite([f._asdict() for f in problem.findings])}),
        "command": shlex.join(["xpnn", *args.argv]),
        "finished": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "machine": machine(course.backend),
    }


def _finish(job: Job, staging: Staging, course: Course, problem: Problem, notes: list[str], ending: Ending) -> None:
    """Score, write all files, let them take their places together, and print what came out."""
    args, out, scored, source = job.settings, job.out, problem.scored(), problem.source
    info = _facts(args, course, problem, notes, ending)
    info["run"] = {name: (staging.plan or {})[name] for name in ("id", "data")}
    predictor = course.predictor(info)
    outputs = scored.outputs(predictor)
    scores = predictor.score_outputs(outputs, scored.y)
    if args.metric is not None:
        scores |= own_score(args.metric, predictor, scored.y, outputs)
    info["scores"] = finite({"on": scored.name, **scores})
    evidence = collect_evidence(
        predictor,
        scored.raw,
        scored.y,
        history=course.history,
        # Whoever ends a training waits for its results; and trees know the rows that they were trained on by heart.
        trained=None if ending.status or scored.name == "training rows" else problem.trained(args.seed),
        numbers=scored.numbers,
        image_shape=source.image_shape,
        seed=args.seed,
    )
    train = problem.parts["train"]
    points = (source.raw[train], problem.y[train]) if source.kind == "points" and problem.y is not None else None
    beside = course.write_more(staging.path, info["run"]["id"])
    results = write_results(staging.path, predictor, course.history, points, evidence, beside)
    written = [path.name for path in results]
    if args.report:
        run = dataclasses.replace(read_run(staging.path), folder=out, name=out.resolve().name)
        written.append(write_report(run, staging.path / "report.html").name)
    staging.commit(written, remove=superseded(out, written), keep=ending.resumable)
    files = [out / name for name in written]
    if args.json:
        print_json({**info, "parameters": predictor.net.n_params, "files": [str(path) for path in files]})
        return
    why = f": {ending.why}" if ending.why else ""
    print(f"{plural(len(course.history), 'epoch')} in {ending.seconds:.1f} s{why}", end="\n\n")
    for line in leaks(problem.findings or ()):
        print(line)
    report_scores(predictor, scores, scored.name, args.metric)
    course.tell()
    report_baselines(evidence, predictor.target_names)
    print()
    for path in files:
        print(f"wrote {printable(str(path))}")
    if ending.resumable:
        print(f"to go on: xpnn {args.command} --resume {out}")


def _tell_finished(job: Job) -> int:
    """Say that nothing is left to do."""
    info = job.finished or {}
    if job.settings.json:
        files = dict.fromkeys((*FILES, *info.get("run", {}).get("files", ())))
        print_json({**info, "files": [str(job.out / name) for name in files]})
    else:
        print(f"the run in {job.out} has ended, after {info['epochs']} epochs: nothing is left to do")
    return 0
