"""Writes the weights files of test/golden/weights and, beside them, what PyTorch and NumPy say is in them (weights.json).

For whoever changes a reader; neither users nor `npm test` need Python:
    pip install torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
    python test/golden/weights.py && npx biome check --write test/golden/weights

Numbers are small on purpose: every one of them is exact in its type. Python 2 is not needed: its pickles are put together opcode by opcode,
as its cPickle does, and read back with encoding="latin1" before they are kept. Streams differ from run to run: torch numbers
their storages by address.
"""

import argparse
import base64
import collections
import json
import math
import pathlib
import pickle
import struct

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

folder = pathlib.Path(__file__).parent / "weights"
folder.mkdir(exist_ok=True)
for old in folder.iterdir():
    old.unlink()
expected = []
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def number(value):
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)


def described(value):
    """Type, shape and numbers; numbers rounded to float32, and for int64 whole ones too."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value.astype(value.dtype.newbyteorder("="))))
    entry = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "values": [number(x) for x in value.detach().to(torch.float32).reshape(-1).tolist()]}
    if value.dtype == torch.int64:
        entry["whole"] = [str(x) for x in value.reshape(-1).tolist()]
    return entry


def flattened(value, name=""):
    """Tensors by dotted names."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return {} if isinstance(value, np.ndarray) and value.dtype == object else {name or "tensor": described(value)}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {k: v for key, item in items for k, v in flattened(item, f"{name}.{key}" if name else str(key)).items()}


def keep(value, **files):
    """Files that hold the same, each with its container."""
    expected.append({"files": files, "tensors": flattened(value)})


def save_torch(name, value, **options):
    """Archive and stream."""
    torch.save(value, folder / f"{name}.zip.pth", **options)
    torch.save(value, folder / f"{name}.stream.pth", _use_new_zipfile_serialization=False, **options)
    keep(value, **{f"{name}.zip.pth": "torch", f"{name}.stream.pth": "torch-legacy"})


odd = [0.0, -0.0, 1.5, -2.25, math.inf, -math.inf, math.nan]
types = {
    "f64": torch.tensor([*odd, 2.0**-1000, 1 / 3], dtype=torch.float64),
    "f32": torch.tensor([*odd, 2.0**-149, 3.0e38]),
    "f16": torch.tensor([*odd, 2.0**-24, 2.0**-14, 65504.0], dtype=torch.float16),
    "bf16": torch.tensor([*odd, 2.0**-133, 3.0e38], dtype=torch.bfloat16),
    "i64": torch.tensor([0, -1, 2**63 - 1, -(2**63)], dtype=torch.int64),
    "i32": torch.tensor([0, -1, 2**31 - 1, -(2**31)], dtype=torch.int32),
    "i16": torch.tensor([0, -1, 2**15 - 1, -(2**15)], dtype=torch.int16),
    "i8": torch.tensor([0, -1, 127, -128], dtype=torch.int8),
    "u8": torch.tensor([0, 1, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
}
unsigned = {
    "u64": torch.tensor([0, 2**53 - 1], dtype=torch.uint64),
    "u32": torch.tensor([0, 2**32 - 1], dtype=torch.uint32),
    "u16": torch.tensor([0, 2**16 - 1], dtype=torch.uint16),
}
save_torch("types", {**types, **unsigned})
save_torch("protocol4", {"a": types["f32"], "b": [types["i8"], ("x", 1)]}, pickle_protocol=4)

base = torch.arange(24.0).reshape(2, 3, 4)
images = torch.arange(48.0).reshape(2, 2, 3, 4)
marked = nn.Parameter(torch.tensor([1.0, 2.0]))
marked.note = "kept"
save_torch(
    "views",
    {
        "whole": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "column": base[:, 1, 3],
        "number": base[1, 2, 3],
        "alone": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
        "none": base[:, 3:],
        "channels_last": images.to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(base[0]),
        "marked": marked,
        "turned": nn.Parameter(torch.arange(6.0).reshape(2, 3).t()),
    },
)
save_torch("tensor", torch.arange(5.0)[1:4])

torch.manual_seed(1)
network = nn.Sequential(collections.OrderedDict(conv1=nn.Conv2d(2, 3, 2), bn1=nn.BatchNorm2d(3), fc=nn.Linear(3, 2)))
adam = torch.optim.Adam(network.parameters(), lr=0.5)
network.fc(network.bn1(network.conv1(torch.ones(2, 2, 3, 3))).mean((2, 3))).sum().backward()
adam.step()
save_torch(
    "checkpoint",
    {
        "epoch": 3,
        "arch": "resnet50",
        "best": np.float64(0.75),
        "large": 2**70,
        "args": argparse.Namespace(lr=0.1, out=None, distributed=False, steps=[1, 2]),
        "state_dict": network.state_dict(),
        "optimizer": adam.state_dict(),
        "device": torch.device("cuda", 0),
        "size": torch.Size([3, 4]),
        "dtype": torch.float32,
        "history": list(range(20)),
        "by_class": collections.defaultdict(list, {1: "one"}),
        "seen": {5},
    },
)

# Not read, each for a reason of its own.
torch.save({"expanded": torch.ones(1).expand(1000, 1000)}, folder / "expanded.pth")
torch.save({"negative": torch._neg_view(torch.ones(2))}, folder / "negative.pth")
torch.save(network.conv1, folder / "module.pth")
torch.jit.save(torch.jit.script(nn.ReLU()), folder / "script.pt")

arrays = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "turned": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "half": np.array([0.5, -1.5, np.inf], dtype=np.float16),
    "big": np.array([1.0, -2.5], dtype=">f4"),
    "steps": np.array([2**62, -5], dtype=np.int64),
    "bytes": np.array([[0, 10, 255]], dtype=np.uint8),
    "flags": np.array([True, False]),
    "one": np.array(3.0, dtype=np.float32),
    "nothing": np.zeros((0, 4), dtype=np.float32),
    "long": np.arange(300, dtype=np.float32),
}
for protocol in range(6):
    name = f"numpy.protocol{protocol}.pkl"
    holder = {**arrays, "names": np.array(["a", None], dtype=object), "mean": np.float32(0.5), "count": np.int64(2**60), "letter": "ä€😀\\\n"}
    (folder / name).write_bytes(pickle.dumps(holder, protocol=protocol))
keep(arrays, **{f"numpy.protocol{protocol}.pkl": "pickle" for protocol in range(6)})
(folder / "torch.pkl").write_bytes(pickle.dumps({"a": base, "b": base.permute(2, 0, 1), "p": nn.Parameter(base[0])}, protocol=2))
keep({"a": base, "b": base.permute(2, 0, 1), "p": base[0]}, **{"torch.pkl": "pickle"})


class Python2:
    """What Python 2's cPickle writes for a dict of arrays in protocol 2; memo numbers begin at 1 there."""

    def __init__(self):
        self.bytes = b"\x80\x02"
        self.memo = 0

    def put(self):
        self.memo += 1
        self.bytes += b"q" + bytes([self.memo])
        return self.memo

    def string(self, value):
        self.bytes += (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value
        self.put()

    def array(self, value, names):
        if not names:
            self.bytes += b"cnumpy.core.multiarray\n_reconstruct\n"
            names["make"] = self.put()
            self.bytes += b"cnumpy\nndarray\n"
            names["class"] = self.put()
        else:
            self.bytes += b"h" + bytes([names["make"]]) + b"h" + bytes([names["class"]])
        self.bytes += b"K\x00\x85"
        self.put()
        self.string(b"b")
        self.bytes += b"\x87"
        self.put()
        self.bytes += b"R"
        self.put()
        self.bytes += b"(K\x01" + (b"(" if value.ndim > 3 else b"") + b"".join(b"K" + bytes([n]) for n in value.shape)
        self.bytes += b"t" if value.ndim > 3 else bytes([0x84 + value.ndim])
        self.put()
        self.bytes += b"cnumpy\ndtype\n"
        self.put()
        self.string(value.dtype.str[1:].encode())
        self.bytes += b"K\x00K\x01\x87"
        self.put()
        self.bytes += b"R"
        self.put()
        self.bytes += b"(K\x03"
        self.string(b"<")
        self.bytes += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        self.put()
        self.bytes += b"b\x89"
        self.string(value.tobytes())
        self.bytes += b"t"
        self.put()
        self.bytes += b"b"

    def dict(self, values):
        self.bytes += b"}"
        self.put()
        self.bytes += b"("
        names = {}
        for key, value in values.items():
            self.string(key.encode())
            self.array(value, names)
        self.bytes += b"u."
        return self.bytes


old = {
    "conv1.weight": np.arange(2 * 3 * 7 * 7, dtype=np.float32).reshape(2, 3, 7, 7),
    "bn1.bias": np.array([1.5, -2.0], dtype=np.float32),
    "fc.weight": np.arange(100, dtype=np.float64).reshape(2, 50),
}
text = Python2().dict(old)
back = pickle.loads(text, encoding="latin1")
assert list(back) == list(old) and all(np.array_equal(back[key], old[key]) for key in old)
(folder / "python2.pkl").write_bytes(text)
keep(old, **{"python2.pkl": "pickle"})

for name in ("conv1.weight", "columns", "half", "big", "steps", "bytes", "flags", "one", "nothing"):
    np.save(folder / f"{name}.npy", arrays[name])
    keep(arrays[name], **{f"{name}.npy": "npy"})
for version in (2, 3):
    with open(folder / f"version{version}.npy", "wb") as file:
        np.lib.format.write_array(file, arrays["columns"], version=(version, 0))
keep(arrays["columns"], **{"version2.npy": "npy", "version3.npy": "npy"})

# Plain values, in each protocol; test/pickle.test.ts states them again.
itself = []
itself.append(itself)
shared = [1]
plain = {
    "none": None,
    "flags": [True, False],
    "integers": [0, 255, 256, 65535, 65536, -1, 2**31, -(2**31) - 1, 2**53 - 1, 2**53, -(2**63), 2**200, -(2**2000)],
    "floats": [0.5, -0.0, 1e300, 5e-324, math.inf, -math.inf, math.nan],
    "texts": ["", "ä€😀", "line\nback\\slash\0quote'\"", "x" * 300],
    "bytes": [b"", b"\x00\xff\n", bytes(range(256)) * 2, bytearray(b"ab")],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "sets": [{7}, frozenset([8])],
    "shared": [shared, shared],
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "keys": {1: "a", None: "b", (1, 2): "c", "__proto__": "d", "constructor": "e"},
    "itself": itself,
    "nothing": [[], {}],
}
pickles = [base64.b64encode(pickle.dumps(plain, protocol=protocol)).decode() for protocol in range(6)]

all_types = {**types, **unsigned, "empty": torch.zeros(0, 3)}
save_file(all_types, folder / "types.safetensors", metadata={"format": "pt"})
keep(all_types, **{"types.safetensors": "safetensors"})
(folder / "types.safetensors").chmod(0o644)
made = f"torch {torch.__version__}, numpy {np.__version__}"
(folder / "weights.json").write_text(json.dumps({"made": made, "cases": expected, "plain": pickles}, indent=2) + "\n")
