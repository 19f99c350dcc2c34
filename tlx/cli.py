"""The command line: one thin function per verb.

Each verb imports what it needs when it is called, so that `tlx --help` costs nothing and a
mistake in a run file is answered before jax is there. What is wrong is said in a sentence; a
traceback is printed only with `--debug`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tlx.commands import audit, data, predict, rank, weights
from tlx.commands.options import (
    add_json,
    add_profile,
    add_run_file,
    add_sets,
    add_training,
    trusting,
)

FINE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: done; failed while running; refused before that; stopped by a signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    args = parser().parse_args(given or ["--help"])
    _keep_compiled()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no text in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args.verb(args)
        sys.stdout.flush()
        return FINE
    except BrokenPipeError:  # `tlx plugins | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        if "debug" in args:
            raise
        sentence, code = _said(error)
        print(f"tlx: {sentence}", file=sys.stderr)
        if "tlx.devices.hosts" in sys.modules:
            sys.modules["tlx.devices.hosts"].leave(code)
        return code


def _keep_compiled() -> None:
    """Let jax keep compiled programs in the user's cache folder, unless told otherwise."""
    from tlx.files.cache_folder import cache_folder

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _said(error: BaseException) -> tuple[str, int]:
    """The sentence that is printed for an error, and the exit code."""
    from tlx import errors
    from tlx.boundary import in_a_file
    from tlx.devices.memory import memory_full

    if isinstance(error, errors.Interrupted):
        return str(error), INTERRUPTED
    if isinstance(error, KeyboardInterrupt):
        return "stopped.", INTERRUPTED
    if isinstance(error, errors.TlxError):
        failed = isinstance(
            error,
            errors.DivergedError | errors.HostsError | errors.StudyError | errors.MemoryFullError,
        )
        return str(error), FAILED if failed else REFUSED
    if no_device := _without_device():
        return no_device, REFUSED
    if full := memory_full(error):
        return full, FAILED
    if in_file := in_a_file(error):
        return in_file, REFUSED
    kind = "" if isinstance(error, OSError) else f"internal error: {type(error).__name__}: "
    return f"{kind}{error}\nThe same command with --debug shows where it happened.", FAILED


def _without_device() -> str | None:
    """The sentence for a device that was asked for and is not there; None where jax has one."""
    if not (asked := os.environ.get("JAX_PLATFORMS")) or "jax" not in sys.modules:
        return None
    try:
        sys.modules["jax"].devices()
        return None
    except (RuntimeError, AssertionError):  # the latter where no plugin of jax knows the name
        return (
            f"JAX_PLATFORMS={asked} asks for a device that jax does not find here. Leave it unset "
            f"to take what there is, or install what jax needs for it, such as "
            f"pip install 'jax[cuda12]'. 'tlx doctor' says what jax sees."
        )


# --- the verbs ----------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    """Train what a run file says."""
    from tlx import config

    _train(config.read(args.run_file, args.set, trust_code=args.trust_code), args)


def sweep(args: argparse.Namespace) -> None:
    """Train a run at many points with several seeds; validation chooses."""
    from tlx import config
    from tlx.studies import sweep_space

    sweep_space.axes(args.over)
    # before jax is imported
    config.check(config.read(args.run_file, args.set, trust_code=args.trust_code))
    from tlx.studies import sweep

    sweep.sweep(
        args.run_file, args.over, seeds=args.seeds, trials=args.trials, sets=args.set,
        out=args.out, resume=args.resume, overwrite=args.overwrite, trust_code=args.trust_code,
    )  # fmt: skip


def finetune(args: argparse.Namespace) -> None:
    """Train on a folder of pictures; the run file is written for you."""
    from tlx import config
    from tlx.run_file import finetune

    chosen = {name: getattr(args, name) for name in finetune.CHOICES}
    table = finetune.table(args.folder, args.set, **chosen)
    _train(config.parse(table, f"tlx finetune {args.folder}"), args)


def _train(run: Any, args: argparse.Namespace) -> None:
    from tlx import config

    config.check(run)  # before jax is imported, which takes longer
    from tlx import study

    study.run(run, out=args.out, resume=args.resume, overwrite=args.overwrite, profile=args.profile)


def show(args: argparse.Namespace) -> None:
    """Say what would run: phases, trainable counts, what each divergence costs."""
    from tlx import config

    read = config.read(args.run_file, args.set, trust_code=args.trust_code)
    config.check(read)
    from tlx.commands import show as showing

    shown = showing.show(read, timed=args.time)
    if args.json:
        from tlx.reporting.wording import as_json

        return print(as_json(shown))
    for line in showing.lines(shown):
        print(line)


def evaluate(args: argparse.Namespace) -> None:
    """Measure a finished run's model again, or weights as they are, on the test split."""
    from tlx import study
    from tlx.errors import StudyError, listed
    from tlx.reporting.wording import aligned, as_json, results

    found = study.evaluate(args.run, args.set, trust_code=args.trust_code)
    each = found if "model" not in found else {"": found}
    failed = [name for name, splits in each.items() if "failed" in splits]
    if args.json:
        print(as_json(found))
    for name, splits in () if args.json else each.items():
        print(*filter(None, (name, splits.get("failed") or splits["model"])), sep=": ")
        print("" if "failed" in splits else aligned(results(splits)))
    if failed:
        raise StudyError(f"{len(failed)} of {len(each)} could not be measured: {listed(failed)}.")


def plugins(args: argparse.Namespace) -> None:
    """List what is installed, from metadata alone; `--check` imports everything."""
    from tlx import registry
    from tlx.errors import PluginError
    from tlx.reporting.wording import aligned, as_json

    found = registry.status(args.kind, imported=args.check)
    fine, bad = ("ok", "broken") if args.check else ("", "claimed twice")
    rows = [(plugin, bad if why else fine, why) for plugin, why in found]
    if args.json:
        entries = [{**vars(p), "status": status, "reason": why} for p, status, why in rows]
        print(as_json(entries))
    else:
        titles = ("kind", "name", "distribution", "version", "status")
        cells = ((p.kind, p.name, p.distribution, p.version, status) for p, status, _ in rows)
        print(aligned([titles, *cells]))
    for note in registry.damage():
        print(f"note: {note}", file=sys.stderr)
    broken = [why for _, why in found if why]
    if args.check and broken:
        raise PluginError("\n  ".join([f"{len(broken)} of {len(found)} are broken:", *broken]))


def doctor(args: argparse.Namespace) -> None:
    """Say what this installation is made of, and whether a few seconds of training work."""
    from tlx.commands import doctor
    from tlx.errors import TlxError
    from tlx.reporting.wording import as_json

    found = doctor.diagnosed()
    print(as_json(found._asdict()) if args.json else "\n".join(doctor.lines(found)))
    if not found.well:
        raise TlxError("Something is wrong with this installation; see above.")


def new_plugin(args: argparse.Namespace) -> None:
    """Write the skeleton of a plugin."""
    from tlx import scaffold

    for path in scaffold.new_plugin(args.kind, args.name, Path.cwd()):
        print(path)


# --- how they are called ------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments."""
    from tlx import __version__

    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks"
    )
    top = argparse.ArgumentParser(
        prog="tlx", description="Transfer learning in JAX out of plugins.", parents=[debug],
        epilog="Begin with 'tlx finetune FOLDER', a folder with one folder of pictures per class; "
        "'tlx COMMAND --help' says what a command takes.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"tlx {__version__}")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(
        name: str, function: Callable[[argparse.Namespace], None], below: Any = verbs
    ) -> argparse.ArgumentParser:
        text = function.__doc__ or ""
        made = below.add_parser(name, help=text, description=text, parents=[debug])
        made.set_defaults(verb=function)
        return made

    made = verb("run", run)
    add_run_file(made)
    add_training(made)
    add_profile(made)
    trusting(made)

    made = verb("sweep", sweep)
    add_run_file(made)
    trusting(made)
    made.add_argument(
        "--over", action="append", required=True, metavar="KEY=SPEC",
        help="a key and its values: log:1e-4:1:8, lin:0:1:5, 0.1,0.3; again for another key; "
        "without the count for a sampler",
    )  # fmt: skip
    made.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="of every point; 1 if absent"
    )
    made.add_argument(
        "--trials", type=int, metavar="N", help="points that a sampler draws; a grid if absent"
    )
    add_training(made)

    audit.add(verb)

    made = verb("finetune", finetune)
    made.add_argument(
        "folder",
        metavar="FOLDER",
        help="pictures in one folder per class, or other data: an .npz, a table, tfds:NAME, ...",
    )
    made.add_argument(
        "--backbone", metavar="NAME",
        help="the network, one of 'tlx plugins backbones'; resnet20 if absent",
    )  # fmt: skip
    made.add_argument(
        "--weights", metavar="W",
        help="where its numbers come from: a file, a run's folder or a name; none for random ones; "
        "those that are packaged with the backbone if absent",
    )  # fmt: skip
    made.add_argument(
        "--strategy", metavar="NAME",
        help="which parts are trained and how, one of 'tlx plugins strategies'; "
        "probe_then_finetune if absent, finetune from random numbers",
    )  # fmt: skip
    made.add_argument(
        "--epochs", type=float, metavar="N", help="passes over the pictures; 20 if absent"
    )
    made.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures of a step; 32 if absent"
    )
    made.add_argument(
        "--lr", type=float, metavar="RATE",
        help="the learning rate; 0.001 if absent, 0.03 with --strategy feature_transfer",
    )  # fmt: skip
    made.add_argument(
        "--seed", type=int, metavar="N", help="of all that is drawn at random; 0 if absent"
    )
    made.add_argument("--name", help="of the run; the folder's name if absent")
    add_training(made)
    add_profile(made)

    made = verb("show", show)
    add_run_file(made)
    made.add_argument(
        "--time", action="store_true",
        help="compile and measure a few steps, and say how long the run takes here",
    )  # fmt: skip
    add_sets(made)
    trusting(made)
    add_json(made)

    made = verb("eval", evaluate)
    made.add_argument("run", metavar="RUN_DIR|RUN.toml", help="a run's folder, or a run file")
    add_sets(made)
    trusting(made)
    add_json(made)

    predict.add(verb)
    data.add(verb)
    rank.add(verb)
    weights.add(verb)

    add_json(verb("doctor", doctor))

    made = verb("plugins", plugins)
    made.add_argument(
        "kind", nargs="?", metavar="KIND", help="such as backbones or divergences; all if absent"
    )
    made.add_argument("--check", action="store_true", help="import each one, list broken ones")
    add_json(made)

    made = verb("new-plugin", new_plugin)
    made.add_argument("kind", metavar="KIND", help="such as backbone or divergence")
    made.add_argument("name", metavar="NAME", help="what run files will call it")
    return top
