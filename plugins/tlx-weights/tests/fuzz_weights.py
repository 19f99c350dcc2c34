"""Mutates weight files: a program, see `tlx.testing.fuzzing`.

FOLDER holds good files of every format. Each input is one of them with one to a
few changes: of bytes, of the members of its archive, which is packed again so that no checksum
hides the change, of the steps of its pickle, of its header, or of the tree that it holds. What is
read is then looked for a network's names in it, behind whatever stands before them.
"""

import io
import json
import pickletools
import zipfile

import msgpack
import numpy as np
from tlx_weights.equinox_leaves import EquinoxLeaves
from tlx_weights.flax_msgpack import FlaxMsgpack
from tlx_weights.hub import Hub
from tlx_weights.npz import Npz
from tlx_weights.safetensors import Safetensors
from tlx_weights.torch import Torch

from tlx.errors import WeightsError
from tlx.testing.fuzzing import INTERESTING, Input, argument, changed_bytes, changed_value, main
from tlx.types import Variables
from tlx.weights.matching import match

WORDS = [b"collections\nOrderedDict\n", b"torch._utils\n_rebuild_tensor_v2\n", b"os\nsystem\n"]
WORDS += [b"torch\nFloatStorage\n", b"torch\nSize\n", b"argparse\nNamespace\n"]
WORDS += [b"torch._tensor\n_rebuild_from_type_v2\n", b"torch._utils\n_rebuild_parameter\n"]


def steps(program):
    """A pickle cut into its steps."""
    places = [place for _, _, place in pickletools.genops(program)]
    ends = [*places[1:], len(program)]
    return [program[start:end] for start, end in zip(places, ends, strict=True)]


def step(draw):
    """A random step, with something like an argument where it takes one."""
    code = draw.choice(pickletools.opcodes)
    if code.arg is None:
        return code.code.encode("latin-1")
    if code.name in ("GLOBAL", "INST"):
        return code.code.encode("latin-1") + draw.choice(WORDS)
    text = argument(draw) if draw.random() < 0.5 else str(draw.choice(INTERESTING)).encode() + b"\n"
    return code.code.encode("latin-1") + text


def changed_steps(draw, program):
    parts = steps(program)
    for _ in range(draw.choice([1, 1, 2, 3, 8])):
        at, other = draw.randrange(len(parts)), draw.randrange(len(parts))
        match draw.randrange(6):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, parts[other])
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts.insert(at, step(draw))
            case 4:
                parts[at] = parts[at][:1] + argument(draw) + parts[at][1 + draw.randrange(8) :]
            case 5:
                begin, end = sorted((at, other))
                parts[begin:begin] = parts[begin : min(end, begin + 40)]
        if not parts:
            break
    return b"".join(parts)


def changed_archive(draw, data, other):
    """One member changed, renamed, dropped or doubled, and all of them packed again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [[name, archive.read(name)] for name in archive.namelist()]
    pickles = [part for part in parts if part[0].endswith("data.pkl")]
    part = draw.choice(pickles) if pickles and draw.random() < 0.7 else draw.choice(parts)
    match draw.randrange(10):
        case 0:
            part[0] = draw.choice(
                [*(name for name, _ in parts), "../x.npy", "/x", "x/data/9", "data.pkl"]
            )
        case 1:
            parts.remove(part)
        case 2:
            parts.append([part[0], draw.choice(parts)[1]])
        case 3 | 4 | 5 | 6 if part in pickles:
            part[1] = changed_steps(draw, part[1])
        case _:
            part[1] = changed_bytes(draw, part[1], other)
    packed = io.BytesIO()
    method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return packed.getvalue()


def changed_legacy(draw, data):
    """One of the five pickles with other steps."""
    stream, at = io.BytesIO(data), [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        at.append(stream.tell())
    which = draw.choice([0, 1, 2, 3, 3, 3, 3, 3, 3, 4])
    program = changed_steps(draw, data[at[which] : at[which + 1]])
    return data[: at[which]] + program + data[at[which + 1] :]


def changed(draw, data, other):
    if draw.random() < 0.3:
        return changed_bytes(draw, data, other)
    return changed_archive(draw, data, other) if data[:2] == b"PK" else changed_legacy(draw, data)


def changed_tensors(draw, data, other):
    """The header of a safetensors file with other places, and with a length that is right."""
    if draw.random() < 0.4:
        return changed_bytes(draw, data, other)
    size = int.from_bytes(data[:8], "little")
    header = changed_value(draw, json.loads(data[8 : 8 + size]), ["F32", "BF16", "I64", "a/b"])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def changed_leaves(draw, data, other):
    """Flax's tree with other names, values and forms of arrays."""
    if draw.random() < 0.4:
        return changed_bytes(draw, data, other)
    tree = msgpack.unpackb(data, ext_hook=lambda code, body: {"code": code, "body": body.hex()})
    tree = changed_value(draw, tree, ["float32", "bfloat16", "__msgpack_chunked_array__", "0"])

    def packed(value):
        if isinstance(value, dict) and value.keys() == {"code", "body"}:
            body = bytes.fromhex(value["body"])
            if draw.random() < 0.3:
                body = changed_bytes(draw, body, data)
            return msgpack.ExtType(value["code"] % 128, body)
        if isinstance(value, dict):
            return {name: packed(inner) for name, inner in value.items()}
        return [packed(inner) for inner in value] if isinstance(value, list) else value

    try:
        return msgpack.packb(packed(tree))
    except (ValueError, TypeError, OverflowError, AttributeError):  # of a changed array
        return changed_bytes(draw, data, other)


def changed_index(draw, data, other):
    """Other names of tensors and files."""
    if draw.random() < 0.4:
        return changed_bytes(draw, data, other)
    words = ["good-plain.safetensors", "../x.safetensors", "/etc/passwd", "weight_map", "a", ""]
    return json.dumps(changed_value(draw, json.loads(data), words)).encode()


SOURCES = {
    ".npz": Npz, ".safetensors": Safetensors, ".pth": Torch, ".msgpack": FlaxMsgpack,
    ".eqx": EquinoxLeaves, ".json": Hub,
}  # fmt: skip
CHANGES = {
    ".npz": changed, ".pth": changed, ".safetensors": changed_tensors, ".msgpack": changed_leaves,
    ".eqx": changed_bytes, ".json": changed_index,
}  # fmt: skip
NETWORK = Variables({"backbone": {name: np.zeros((3, 4), np.float32) for name in "wa"}}, {})
"""Some of the good files' names, which may stand behind prefixes."""


def read(file):
    """Every number of the file, and where in it a network is; what is refused is refused with its
    name, in a line."""
    try:
        found = SOURCES[file.suffix](str(file)).tensors()
    except WeightsError as error:
        said = str(error)
        assert said.startswith(str(file)) or (file.suffix == ".json" and "good" in said), said
        assert said.isprintable(), said
        assert len(said) < 1000, said
        raise
    match(found, NETWORK, prefix="q" if "two" in file.name else "")
    return sum(len(np.asarray(array).tobytes()) for array in found.values.values())


def inputs(folder):
    for file in sorted(folder.glob("good*")):
        yield Input(file, file.read_bytes(), CHANGES[file.suffix], read)


if __name__ == "__main__":
    main(inputs)
