"""Mutates weight files and reads them: a program of its own, so that its memory can be limited.

    python fuzz_weights.py FOLDER COUNT SEED

FOLDER holds good files (`*.pth`, `*.npz`). Each input is one of them with one to a few changes: of
bytes, of the members of its archive, which is packed again so that no checksum hides the change,
or of the steps of its pickle. Reading must give arrays or tlx's own WeightsError. Prints how it
went as JSON; an input that raised anything else is left in FOLDER as `crash-N`.
"""

import io
import json
import pickletools
import random
import resource
import sys
import time
import warnings
import zipfile
from pathlib import Path

from tlx_weights.npz import Npz
from tlx_weights.torch import Torch

from tlx.errors import WeightsError

MEMORY = 1 << 30
"""Bytes of address space beyond what the program has when it begins."""
INTERESTING = [0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31]
INTERESTING += [2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [b"collections\nOrderedDict\n", b"torch._utils\n_rebuild_tensor_v2\n", b"os\nsystem\n"]
WORDS += [b"torch\nFloatStorage\n", b"torch\nSize\n", b"argparse\nNamespace\n"]
WORDS += [b"torch._tensor\n_rebuild_from_type_v2\n", b"torch._utils\n_rebuild_parameter\n"]


def steps(program):
    """A pickle cut into its steps."""
    places = [place for _, _, place in pickletools.genops(program)]
    ends = [*places[1:], len(program)]
    return [program[start:end] for start, end in zip(places, ends, strict=True)]


def argument(draw):
    return draw.choice(INTERESTING).to_bytes(8, "little")[: draw.choice([1, 2, 4, 8])]


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


def changed_bytes(draw, data, other):
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(data):
                data[at] = draw.randrange(256)
            case 2:
                data[at : at + 8] = argument(draw)
            case 3:
                del data[at : at + draw.choice([1, 2, 8, 100])]
            case 4:
                del data[at:]
            case 5:
                begin = draw.randrange(len(other) + 1)
                data[at:at] = other[begin : begin + draw.choice([1, 8, 64, 10_000])]
            case _:
                data[at:at] = data[at : at + draw.choice([1, 8, 64, 10_000])]
    return bytes(data)


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


def read(file):
    """Every number of the file; None where it was refused with a sentence of ours."""
    try:
        values = (Npz if file.suffix == ".npz" else Torch)(str(file)).tensors().values
        return sum(len(array.tobytes()) for array in values.values())
    except WeightsError as error:
        said = str(error)
    assert said.startswith(str(file)), said
    assert said.isprintable(), said
    assert len(said) < 1000, said
    return None


def main(folder, count, seed):
    good = sorted(folder.glob("good*"))
    assert all(read(file) for file in good)
    seeds = [(file.suffix, file.read_bytes()) for file in good]
    report = {"inputs": 0, "accepted": 0, "refused": 0, "slowest": 0.0, "other": []}
    began = time.perf_counter()
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        suffix, data = draw.choice(seeds)
        with warnings.catch_warnings(action="ignore"):  # a name that is packed twice
            data = changed(draw, data, draw.choice(seeds)[1])
        file = folder / f"input{suffix}"
        with file.open("r+b" if file.exists() else "wb") as stream:  # "wb" would wait for the disk
            stream.write(data)
            stream.truncate()
        before = time.process_time()
        try:
            report["accepted" if read(file) is not None else "refused"] += 1
        except Exception as error:
            report["other"].append(f"{number}: {type(error).__name__}: {error}")
            file.replace(folder / f"crash-{number}{suffix}")
        report["inputs"] += 1
        report["slowest"] = max(report["slowest"], time.process_time() - before)
    report["seconds"] = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split()
    report["megabytes"] = int(status[status.index("VmHWM:") + 1]) / 1024
    print(json.dumps(report))


if __name__ == "__main__":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
