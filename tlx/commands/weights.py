"""The verbs around weights: what is in a file, whether it is right here, and the way back out.

As in `tlx.cli`, each imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tlx.commands.options import add_json, trusting

SHOWN = 12
"""Tensors that are listed unasked."""
RECORDING = """
A reference is made once, where the original runs. With PyTorch:

  import numpy as np, torch
  layers = {}
  def keep(name):
      def hook(module, x, out):
          if torch.is_tensor(out):  # a copy: what comes next may write over it in place
              layers[name] = out.detach().clone().numpy()
      return hook
  for name, module in model.named_modules():
      if name and next(module.parameters(), None) is not None:
          module.register_forward_hook(keep(name))
  x = torch.randn(2, 3, 224, 224)  # as the network takes it: normalised
  with torch.no_grad():
      model.eval()(x)
  np.savez("FILE.reference.npz", input=x.permute(0, 2, 3, 1), layout="NCHW", **layers)
"""


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `export` and `weights` to the command line."""
    made = verb("export", export)
    made.add_argument("run", metavar="RUN_DIR", help="the folder of a finished run")
    made.add_argument("--to", required=True, choices=("safetensors", "torch"), help="the format")
    made.add_argument(
        "--dialect",
        metavar="NAME",
        help="whose names of tensors; the first that is known if absent",
    )
    made.add_argument("--out", metavar="PATH", help="file or folder; RUN_DIR/export if absent")
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    trusting(made)
    add_json(made)

    group = verb("weights", weights)
    below = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = verb("inspect", inspect, below)
    made.add_argument("file", metavar="FILE", help="a file, a folder or a reference")
    made.add_argument(
        "--key", default="", metavar="PLACE", help="where in a checkpoint; found if absent"
    )
    made.add_argument("--all", action="store_true", help="list every tensor")
    trusting(made)
    add_json(made)

    made = verb("verify", verify, below)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.epilog = RECORDING
    made.add_argument("file", metavar="FILE", help="a file, a folder or a reference")
    made.add_argument("--backbone", metavar="NAME", required=True, help="the network to fill")
    made.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="backbone.x=y",
        help="options of the backbone; its defaults if absent",
    )
    made.add_argument(
        "--reference",
        metavar="REF.npz",
        help="FILE.reference.npz or FOLDER/reference.npz if absent",
    )
    made.add_argument(
        "--write", metavar="REF.npz", help="keep what this network computes; not kept if absent"
    )
    made.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        metavar="SHARE",
        help="of a layer's largest number; 0.0001 if absent",
    )
    made.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="GLOB",
        help="leaves that may be missing; none if absent",
    )
    made.add_argument(
        "--key", default="", metavar="PLACE", help="where in a checkpoint; found if absent"
    )
    made.add_argument("--prefix", default="", help="what stands before its names; found if absent")
    trusting(made)
    add_json(made)


def weights(args: argparse.Namespace) -> None:
    """Look into a file of weights, or hold a loaded network against the original."""


def inspect(args: argparse.Namespace) -> None:
    """Say what a file of weights holds, and which backbone it fits."""
    from tlx.reporting.wording import aligned, as_json
    from tlx.weights import inspection

    found = inspection.inspect(args.file, key=args.key, trust_code=args.trust_code)
    if args.json:
        return print(as_json(found))
    rows = [("tensors", f"{len(found['tensors']):,}, {found['parameters']:,} numbers")]
    if found["sha256"]:
        rows.append(("sha256", found["sha256"]))
    if found["input"]:
        rows.append(("input", ", ".join(f"{k} {_short(v)}" for k, v in found["input"].items())))
    if found["architecture"]:
        rows.append(("calls itself", found["architecture"]))
    if found["classes"]:
        rows.append(("classes", f"{len(found['classes'])}: {', '.join(found['classes'][:5])}"))
    rows += [("fits", _fit(fit)) for fit in found["fits"]] or [("fits", "no installed backbone")]
    print(found["origin"])
    print(aligned(rows))
    tensors = [(t["name"], _shape(t["shape"]), t["dtype"]) for t in found["tensors"]]
    rest = 0 if args.all else max(0, len(tensors) - SHOWN)
    print(aligned(tensors[: len(tensors) - rest]))
    if rest:
        print(f"and {rest} more; --all lists them")


def verify(args: argparse.Namespace) -> None:
    """Run loaded weights against the original's activations, layer by layer."""
    from tlx import config
    from tlx.errors import ConfigError, WeightsError

    options = config.apply_sets({"backbone": args.backbone}, args.set)
    if changed := options.keys() - {"backbone"}:
        raise ConfigError(f"--set changes only the backbone here, not {sorted(changed)[0]!r}.")
    body = options["backbone"]
    from tlx.reporting.wording import aligned, as_json
    from tlx.weights import parity

    file = Path(args.reference) if args.reference else parity.beside(args.file)
    there = args.reference is not None or file.is_file()
    if not there and not args.write:
        raise WeightsError(
            f"There is nothing to verify {args.file} against: no reference lies at {file}. "
            f"'tlx weights verify --help' shows the lines that make one with PyTorch; name it "
            f"with --reference."
        )
    own = {key: value for key, value in body.items() if key != "name"}
    network = parity.load(
        args.file, body["name"], own, tuple(args.allow), key=args.key, prefix=args.prefix,
        trust_code=args.trust_code,
    )  # fmt: skip
    if args.write:
        x = parity.reading(file, network) if there else None
        count = parity.write(network, Path(args.write), x)
        print(
            f"{args.write} holds what this network computes in {count} layers: a reference for "
            f"other machines, no proof that it is the original."
        )
        if not there:
            return
    found = parity.verify(network, file, args.tolerance)
    if args.json:
        print(as_json(found))
    else:
        print(aligned([("layer", "in the reference", "error", "relative"), *_rows(found)]))
        for name, why in found["not_compared"]:
            print(f"not compared: {name}: {why}")
    verdict = _verdict(found)
    if not found["agree"]:
        raise WeightsError(verdict)
    if not args.json:
        print(verdict)


def export(args: argparse.Namespace) -> None:
    """Write a run's model for PyTorch, under the names of its family."""
    from tlx.reporting.wording import as_json
    from tlx.weights import export as exporting

    found = exporting.export(
        args.run, args.to, dialect=args.dialect, out=args.out, overwrite=args.overwrite,
        trust_code=args.trust_code,
    )  # fmt: skip
    if args.json:
        return print(as_json(found))
    print(
        f"{found['file']}: {found['tensors']} tensors, {found['bytes']:,} bytes, under the names "
        f"of {found['dialect']}"
    )
    print(f"{found['about']}: preprocessing and classes")


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (row["layer"], row["name"], f"{row['error']:.1e}", f"{row['relative']:.1e}")
        + (() if row["relative"] <= found["tolerance"] else ("differs",))
        for row in found["layers"]
    ]


def _verdict(found: Mapping[str, Any]) -> str:
    """Where the two part ways, or that they do not."""
    rows, first = found["layers"], found["first_difference"]
    if first is None:
        worst = max(rows, key=lambda row: row["relative"])
        return (
            f"All {len(rows)} layers agree; the largest relative error is {worst['relative']:.1e} "
            f"at {worst['layer']}."
        )
    before = rows[: next(n for n, row in enumerate(rows) if row == first)]
    start = "No layer agrees before the first difference"
    if before:
        most = max(row["relative"] for row in before)
        start = f"Layers agree up to {before[-1]['layer']} (relative error up to {most:.1e})"
    return (
        f"{start}. The first difference is at {first['layer']} ({first['name']} in the reference): "
        f"{first['error']:.3g}, which is {first['relative']:.3g} of its largest number; up to "
        f"{found['tolerance']:g} is allowed."
    )


def _fit(fit: Mapping[str, Any]) -> str:
    whole = fit["filled"] == fit["leaves"]
    count = f"all {fit['leaves']}" if whole else f"{fit['filled']} of {fit['leaves']}"
    names = f"names of {fit['dialect']}" if fit["dialect"] else "leaf paths"
    under = f" under `{fit['prefix']}`" if fit["prefix"] else ""
    unused = f", {fit['unused']} tensors left over" if fit["unused"] else ""
    return f"{fit['backbone']}{under}: {count} backbone leaves ({names}){unused}"


def _shape(shape: Any) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _short(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
