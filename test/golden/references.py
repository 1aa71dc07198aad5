"""The public generators that generators.py makes its goldens with, imported from the folders that they were checked out to; nothing of them is copied here.

Commits: NVlabs/stylegan3 c233a919a6faee6e36a316ddd4eddababad1adf9, genforce/interfacegan 8da3fc0fe2a1d4c88dc5f9bee65e8077093ad2bb,
lernapparat/lernapparat 541b6b1f21cbce602c4981cb3fb73f75b42227c8. Their licenses hold for them and for what is made with their weights.
"""

import contextlib
import importlib
import json
import pathlib
import sys
import types

import torch


def stand_in(name, **members):
    """For a module that a reference imports and nothing here uses, where it is not installed."""
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)


class Proxy(types.ModuleType):
    """torch, but with other members."""

    def __init__(self, **members):
        super().__init__("torch")
        vars(self).update(members)

    def __getattr__(self, name):
        return getattr(torch, name)


def stylegan3(folder):
    """networks_stylegan3, networks_stylegan2 (its discriminator), filtered_lrelu and dnnlib."""
    from packaging.version import parse

    stand_in("requests")
    stand_in("pkg_resources", parse_version=parse)
    sys.path.insert(0, str(pathlib.Path(folder).resolve()))
    names = {"networks": "training.networks_stylegan3", "older": "training.networks_stylegan2"}
    names |= {"filtered": "torch_utils.ops.filtered_lrelu", "dnnlib": "dnnlib"}
    return types.SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})


def without_source(*modules):
    """Their objects are pickled with a line in place of the source that persistence puts beside them: no file in git holds that."""
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and hasattr(value, "_orig_module_src"):
                value._orig_module_src = "raise RuntimeError('the source of this class stood here')\n"


@contextlib.contextmanager
def in_double(reference):
    """stylegan3's networks compute in double, though they name float32; their filters have to stay float32, which is exact."""
    torch.set_default_dtype(torch.float64)
    reference.networks.torch = Proxy(float32=torch.float64)
    try:
        yield
    finally:
        reference.networks.torch = torch
        torch.set_default_dtype(torch.float32)


def double(net):
    """In place."""
    filters = {name: value for name, value in net.named_buffers() if name.endswith(("up_filter", "down_filter"))}
    net.double().requires_grad_(False).eval()
    for name, value in filters.items():
        module, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(module), leaf, value)
    return net


def genforce(folder):
    """stylegan_generator_model alone: its package wants more than is needed."""
    path = pathlib.Path(folder) / "models" / "stylegan_generator_model.py"
    spec = importlib.util.spec_from_file_location("stylegan_generator_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lernapparat(folder):
    """The classes of the notebook: its cells up to the one that begins to use them."""
    notebook = json.loads((pathlib.Path(folder) / "style_gan" / "pytorch_style_gan.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    stand_in("IPython")
    names = {}
    for cell in cells:
        if cell.startswith("g_all"):
            break
        exec(cell, names)  # noqa: S102
    return types.SimpleNamespace(**{key: names[key] for key in ("G_mapping", "G_synthesis")})
