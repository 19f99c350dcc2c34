"""Files that mean harm: nothing in them is executed, and they take no more than they are worth."""

import io
import os
import pickle
import pickletools
import re
import struct
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from tlx_weights.torch import Torch
from tlx_weights.torch_globals import NAMES, Maker

from tlx.errors import WeightsError

HARMFUL = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("builtins", "eval"),
    ("builtins", "exec"), ("__builtin__", "eval"), ("builtins", "getattr"),
    ("builtins", "__import__"), ("subprocess", "Popen"), ("subprocess", "check_output"),
    ("importlib", "import_module"), ("torch.hub", "load"), ("torch", "load"),
    ("torch._utils", "_import_dotted_name"), ("collections", "OrderedDict.fromkeys"),
    ("collections.OrderedDict", "__init__"), ("argparse", "Namespace.__class__"),
    ("pickle", "loads"), ("_pickle", "Unpickler"), ("operator", "attrgetter"), ("os.path", "join"),
    ("torch", "FloatStorage.from_file"), ("torch.storage", "UntypedStorage.from_file"),
    ("torch.storage", "_load_from_bytes"), ("numpy", "load"), ("antigravity", "webbrowser"),
    ("torch\x1b[2J", "x"), ("", ""), ("a" * 10_000, "b"),
]  # fmt: skip


def glob(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return pickle.LONG1 + bytes([len(pickle.encode_long(value))]) + pickle.encode_long(value)


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def as_zip(program, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", program)
        for name, data in members.items():
            archive.writestr(f"x/data/{name[1:]}", data)
    return file.getvalue()


MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


def as_legacy(program, **members):
    from tlx_weights.torch_legacy import MAGIC, VERSION

    head = [pickle.dumps(value, 2) for value in (MAGIC, VERSION, MACHINE)]
    keys = pickle.dumps([name[1:] for name in members], 2)
    data = [struct.pack("<q", len(data) // 4) + data for data in members.values()]
    return b"".join([*head, program, keys, *data])


@pytest.fixture(params=[as_zip, as_legacy])
def read(request, tmp_path):
    """The tensors of a file around a program, in both formats, in little time and memory."""

    def read(program, **members):
        path = tmp_path / "net.pth"
        path.write_bytes(request.param(b"\x80\x02" + program, **members))
        traced = len(program) < 10_000  # tracing makes the large ones slow
        if traced:
            tracemalloc.start()
        began = time.process_time()
        try:
            return dict(Torch(str(path)).tensors().values)
        finally:
            assert time.process_time() - began < 3
            if traced:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < 8e6

    return read


def state(**values):
    items = b"".join(text(name) + value for name, value in values.items())
    return b"}(" + items + b"u."


def reference(key="0", count=4, kind="FloatStorage", *more):
    items = (text("storage"), glob("torch", kind), text(key), text("cpu"), number(count), *more)
    return tup(*items) + b"Q"


def tensor(source=None, offset=number(0), size=(2, 2), strides=(2, 1), tail=b"\x89}"):
    sizes, steps = (tup(*(number(x) for x in values)) for values in (size, strides))
    items = (source or reference(), offset, sizes, steps, tail)
    return glob("torch._utils", "_rebuild_tensor_v2") + tup(*items) + b"R"


FOUR = np.arange(4, dtype=np.float32)


def test_the_pieces_of_these_files_make_a_good_one(read):
    found = read(state(w=tensor()), _0=FOUR.tobytes())
    np.testing.assert_array_equal(found["w"], FOUR.reshape(2, 2))


def test_what_python_2_wrote(read):
    """An OrderedDict of a list of lists, names as byte strings: torchvision's first files."""
    pair = b"](U\x01w" + tensor() + b"e"
    found = read(glob("collections", "OrderedDict") + b"](" + pair + b"e\x85R.", _0=FOUR.tobytes())
    np.testing.assert_array_equal(found["w"], FOUR.reshape(2, 2))


# --- code --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "name"), HARMFUL)
def test_a_call_is_refused_by_name(read, tmp_path, module, name):
    witness = tmp_path / "witness"
    argument = tup(text(f"touch {witness}"))
    loaded = set(sys.modules)
    said = re.escape(repr(f"{module}.{name}"[:80]))
    programs = [
        glob(module, name) + argument + b"R.",
        glob(module, name) + argument + b"\x81.",
        state(w=tensor(), x=glob(module, name) + argument + b"R"),
        text(module) + text(name) + b"\x93" + argument + b"R.",
        glob(module, name) + b")R" + argument + b"b.",
        glob("torch._tensor", "_rebuild_from_type_v2")
        + tup(glob(module, name), b"N", argument, b"}") + b"R.",
        tup(glob(module, name), argument) + b"Q.",
    ]  # fmt: skip
    for program in programs:
        with pytest.raises(WeightsError, match=rf"Python object {said}.*Nothing.*was executed"):
            read(program, _0=FOUR.tobytes())
    assert not witness.exists()
    assert set(sys.modules) == loaded


@pytest.mark.parametrize(
    "program",
    [
        b"(S'touch witness'\nios\nsystem\n.",  # INST
        b"(" + glob("collections", "OrderedDict") + b"o.",  # OBJ
        glob("collections", "OrderedDict") + b")}\x92.",  # NEWOBJ_EX
        b"\x82\x01.",  # EXT1
        b"\x84\x01\x00\x00\x00.",  # EXT4
        b"Pstorage\n.",  # PERSID as text
        b"\x97.",  # NEXT_BUFFER
        b"\x98.",  # READONLY_BUFFER
    ],
)
def test_steps_that_no_tensor_needs_are_refused(read, tmp_path, monkeypatch, program):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="which no tensor needs"):
        read(program)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    "program",
    [
        text("os.system") + tup(text("true")) + b"R.",
        glob("torch", "FloatStorage") + tup(text("true")) + b"R.",
        glob("torch", "float16") + tup(text("true")) + b"R.",
        glob("torch", "device") + tup(text("cpu")) + b"R" + tup(text("true")) + b"R.",
        glob("collections", "OrderedDict") + b"]R.",
        glob("collections", "OrderedDict") + b"}b.",  # attributes for the class
        glob("torch._utils", "_rebuild_tensor_v2") + b"}b.",
        tensor() + b"}b.",
        b"]}b.",
        glob("torch.nn.parameter", "Parameter") + text("x") + b"a.",
        tup(text("module"), glob("torch", "Tensor"), text("x"), text("code")) + b"Q.",
        text("storage") + b"Q.",
    ],
)
def test_what_is_no_function_is_not_called(read, program):
    with pytest.raises(WeightsError, match=r"is damaged: it (calls|gives|treats|refers)"):
        read(program, _0=FOUR.tobytes())


def test_attributes_of_a_container_are_dropped(read):
    attributes = b"}(" + text("__class__") + text("evil") + text("items") + b"Nu"
    ordered = glob("collections", "OrderedDict") + b")R(" + text("w") + tensor() + b"u"
    found = read(ordered + attributes + b"b.", _0=FOUR.tobytes())
    assert list(found) == ["w"]


OURS = ("tlx_weights.torch_globals", "tlx_weights.pickled_arrays")


def test_no_entry_of_the_table_is_somebody_elses_function():
    for entry in NAMES.values():
        if isinstance(entry, Maker):
            assert entry.make.__module__ in OURS
        else:
            assert not callable(entry) or isinstance(entry, np.dtype)


class Harm:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_pytorch_itself_saves_of_it(tmp_path, legacy, protocol):
    torch = pytest.importorskip("torch")
    value = {"state_dict": {"w": torch.ones(2)}, "x": Harm(f"touch {tmp_path / 'witness'}")}
    options = {"_use_new_zipfile_serialization": not legacy, "pickle_protocol": protocol}
    torch.save(value, tmp_path / "net.pth", **options)
    with pytest.raises(WeightsError, match=r"Python object '(posix|nt)\.system'.*was executed"):
        Torch(str(tmp_path / "net.pth")).tensors()
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("place", range(5))
def test_every_pickle_of_the_older_format_is_restricted(tmp_path, place):
    harm = pickle.dumps(Harm(f"touch {tmp_path / 'witness'}"), 2)
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "x", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x").read_bytes()
    at, stream = [0], io.BytesIO(data)
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        at.append(stream.tell())
    (tmp_path / "x").write_bytes(data[: at[place]] + harm + data[at[place + 1] :])
    with pytest.raises(WeightsError, match="was executed"):
        Torch(str(tmp_path / "x")).tensors()
    assert not (tmp_path / "witness").exists()


# --- size --------------------------------------------------------------------------------------

CHAIN = glob("torch._tensor", "_rebuild_from_type_v2")


@pytest.mark.parametrize(
    "program",
    [
        b"N" + b"r\xff\xff\xff\xff" + b".",  # a memo index that a C array would be made for
        b"N" + b"p99999999999999999999\n" + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".",
        b"(" * 100_000 + b"t" * 100_000 + b".",
        b"}" + b")" + b"\x85" * 100_000 + b"Ns.",  # a deep key: hashing it recurses
        b"N" + b"\x85" * 100_000 + b"Q.",
        b"}q\x00" + text("a") + b"h\x00s.",  # a dict that holds itself
        b"]q\x00h\x00a.",
        b"]q\x00h\x00e.",
        b"N" + b"2" * 400_000 + b".",
        b"\x8b\xff\xff\xff\x7f.",  # LONG4 of 2 GB
        b"\x8b\xff\xff\xff\xff.",
        b"\x8e" + b"\xff" * 7 + b"\x7f.",  # BINBYTES8 of 8 exabytes
        b"\x8e" + b"\xff" * 8 + b".",
        b"\x8d" + b"\xff" * 7 + b"\x0f.",
        b"\x95" + b"\xff" * 8 + b"N.",
        b"X\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xff.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"S'" + b"\\d" * 1000 + b"'\n.",
        b"V\\ud800\n.",
        b"X\x01\x00\x00\x00\xff.",
        b"c\xff\n\xfe\n.",
        b"F1e999999\n.",
        b"cnothing",
        b"",
        b".",
        b"0.",
        b"1.",
        b"t.",
        b"h\x05.",
        b"(N(NN.",
        b"}(Nu.",
        b"}" * 500_000 + b".",
        CHAIN + b"2" * 400 + b"N" + b"\x86" * 400 + b"R.",
        glob("torch", "Size") + b"(" + b"N" * 100_000 + b"t" + b"R.",
        glob("torch", "device") + b"(" + b"N" * 100_000 + b"tR.",
    ],
    ids=range(38),
)
def test_programs_that_would_fill_the_memory_or_the_stack(read, program):
    with pytest.raises(WeightsError):
        read(program)


def test_pairs_are_not_multiplied(read):
    """A hundred dicts out of one list of pairs would be a hundred times the file, squared."""
    pairs = b"](" + b"".join(tup(number(i), b"N") for i in range(3000)) + b"eq\x01"
    ordered = glob("collections", "OrderedDict") + b"q\x00"
    again = b"h\x00h\x01\x85R0" * 3000
    with pytest.raises(WeightsError, match="no tensors by name"):
        read(pairs + ordered + b"h\x01\x85R0" + again + b".")


def test_keys_that_share_a_hash_are_refused(read):
    """Integers hash to themselves modulo 2**61 - 1, so a dict of such keys takes squared time."""
    items = b"".join(number(i * (2**61 - 1)) + b"N" for i in range(20))
    with pytest.raises(WeightsError, match="a key that is a int"):
        read(b"}(" + items + b"u.")


def test_the_number_of_steps_is_bounded(monkeypatch, read):
    monkeypatch.setattr("tlx_weights.torch_pickle.MOST_STEPS", 1000)
    with pytest.raises(WeightsError, match="more than 1000 steps"):
        read(b"N0" * 1000 + b"N.")


# --- tensors that are not within their storage ---------------------------------------------------

HUGE = 2**62


@pytest.mark.parametrize(
    "wrong",
    [
        tensor(size=(2, 3), strides=(2, 1)),
        tensor(size=(3, 2), strides=(2, 1)),
        tensor(offset=number(1)),
        tensor(offset=number(-1)),
        tensor(offset=number(HUGE)),
        tensor(offset=number(2**80)),
        tensor(offset=b"\x88"),
        tensor(offset=b"N"),
        tensor(size=(HUGE,), strides=(1,)),
        tensor(size=(HUGE, HUGE), strides=(0, 0)),
        tensor(size=(2, 2), strides=(-1, 1)),
        tensor(size=(2, 2), strides=(HUGE, 1)),
        tensor(size=(-2, -2), strides=(2, 1)),
        tensor(size=(2, 2), strides=(1,)),
        tensor(size=(1,) * 65, strides=(1,) * 65),
        tensor(size=(HUGE, HUGE, 0), strides=(1, 1, 1)),
        tensor(size=(2**80, 0), strides=(1, 1)),
        tensor(size=(1_000_000,), strides=(0,)),
        tensor(reference(count=HUGE)),
        tensor(reference(count=-4)),
        tensor(reference(count=5)),
        tensor(reference(count=3)),
        tensor(reference(kind="DoubleStorage")),
        tensor(reference("1")),
        tensor(reference("../../../etc/passwd")),
        tensor(reference("0", 4, "FloatStorage", tup(text("v"), number(3), number(2)))),
        tensor(reference("0", 4, "FloatStorage", tup(text("v"), number(2), number(2)))),
        tensor(reference("0", 4, "FloatStorage", b"NN")),
        tensor(b"N"),
        tensor(text("storage")),
        glob("torch._utils", "_rebuild_tensor_v2") + b")R",
        glob("torch._utils", "_rebuild_parameter") + b"N\x88}\x87R",
        glob("torch._utils", "_rebuild_tensor_v3")
        + tup(reference(), number(0), tup(number(1)), tup(number(1)), b"\x89", b"}", b"N") + b"R",
    ],
    ids=range(33),
)  # fmt: skip
def test_a_view_that_leaves_its_storage(read, wrong):
    with pytest.raises(WeightsError):
        read(state(good=tensor(), wrong=wrong), _0=FOUR.tobytes())


def test_a_storage_that_is_two_things(read):
    both = state(a=tensor(), b=tensor(reference(kind="IntStorage")))
    with pytest.raises(WeightsError, match="describes its storage '0' in two ways"):
        read(both, _0=FOUR.tobytes())


def test_a_part_of_a_storage_in_the_older_format(tmp_path):
    part = tensor(
        reference("0", 4, "FloatStorage", tup(text("v"), number(1), number(3))),
        size=(3,), strides=(1,),
    )  # fmt: skip
    whole = tensor(reference("0", 4, "FloatStorage", b"N"))
    path = tmp_path / "net.pth"
    path.write_bytes(as_legacy(b"\x80\x02" + state(part=part, whole=whole), _0=FOUR.tobytes()))
    found = Torch(str(path)).tensors().values
    np.testing.assert_array_equal(found["part"], FOUR[1:])
    np.testing.assert_array_equal(found["whole"], FOUR.reshape(2, 2))


# --- the file as a whole -------------------------------------------------------------------------


@pytest.mark.parametrize("build", [as_zip, as_legacy])
def test_cut_short_at_every_length(tmp_path, build):
    whole = build(b"\x80\x02" + state(w=tensor(), v=tensor()), _0=FOUR.tobytes())
    path = tmp_path / "net.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"net\.pth"):
            Torch(str(path)).tensors()
    path.write_bytes(whole)
    assert len(Torch(str(path)).tensors().values) == 2


def test_a_flipped_bit_in_a_zip_is_noticed_or_harmless(tmp_path):
    whole = as_zip(b"\x80\x02" + state(w=tensor()), _0=FOUR.tobytes())
    path = tmp_path / "net.pth"
    noticed = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            found = Torch(str(path)).tensors().values
        except WeightsError:
            noticed += 1
        else:
            np.testing.assert_array_equal(found["w"], FOUR.reshape(2, 2))
    assert noticed > len(whole) / 2


def test_lists_of_storages_that_do_not_fit(tmp_path):
    program = b"\x80\x02" + state(w=tensor())
    path = tmp_path / "net.pth"
    good = as_legacy(program, _0=FOUR.tobytes())
    short = as_legacy(program, _0=FOUR[:3].tobytes())
    twice = good.replace(pickle.dumps(["0"], 2), pickle.dumps(["0", "0"], 2))
    unknown = as_legacy(program, _1=FOUR.tobytes())
    for data, said in (
        (short, "cut short"),
        (twice + good[-24:], "names one twice"),
        (unknown, "unknown one"),
        (as_legacy(program), "'0' is not there"),
        (good.replace(struct.pack("<q", 4), struct.pack("<q", 5)), "another size"),
        (good.replace(pickle.dumps(["0"], 2), pickle.dumps("0", 2)), "is none"),
    ):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=said):
            Torch(str(path)).tensors()
