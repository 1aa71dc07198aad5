"""Generators with numbers that repeat, and the files that each project would save them as. For generators.py.

Numbers repeat after a prime, so that no two rows of a matrix are alike, and have eleven bits, so that the files stay small in git.
"""

import collections
import io
import math
import pickle
import sys
import types

import numpy as np
import torch

from keyed import keyed, words

PERIOD = 2039
base = keyed("generators/base", [PERIOD])


def tiled(name, shape, spread=1.0, center=0.0):
    """Uniform, from a place that the name tells; keyed.ts is the twin."""
    begin = int(words(name, 1)[0]) % PERIOD
    count = math.prod(shape)
    numbers = np.resize(np.roll(base, -begin), count).astype(np.float64)
    return (center + spread * numbers).astype(np.float32).reshape(shape)


def short(name, shape, spread=1.0, center=0.0):
    """tiled, in float16's precision."""
    return torch.from_numpy(tiled(name, shape, spread, center).astype(np.float16).astype(np.float32))


UNIT = 3**0.5  # of a uniform number with variance 1

# By the end of a name: spread and center.
STYLEGAN1 = {
    "linear.weight": (UNIT, 0),
    "mapping.weight": (75 * UNIT, 0),  # for the learning rate's multiplier, 0.01; numbers that repeat add up to more than others
    "output5.conv.weight": (0.3, 0),
    "output2.conv.weight": (0.3, 0),
    "mapping.bias": (20, 0),
    "wscale.bias": (0.5, 0),
    "epilogue.bias": (0.3, 0),
    "apply_noise.weight": (0.3, 0),
}
STYLEGAN3 = {
    "mapping.weight": (100 * UNIT, 0),
    "mapping.bias": (20, 0),
    "input.affine.weight": (0.5, 0),
    "input.affine.bias": (0.2, 0.5),
    "affine.weight": (UNIT, 0),
    "affine.bias": (0.3, 1),
    "bias": (0.3, 0),
    "magnitude_ema": (0.5, 1.2),
}


def filled(net, key, rules, kept):
    """Numbers for a network's parameters and buffers but those whose name ends so."""
    state = net.state_dict()
    for name, value in state.items():
        if name.endswith(kept):
            continue
        leaf = name.rpartition(".")[2]
        rule = f"mapping.{leaf}" if name.startswith("mapping.") else next((end for end in rules if name.endswith(end)), None)
        spread, center = rules.get(rule, (UNIT, 0))
        state[name] = short(f"{key}/{name}", list(value.shape), spread, center)
    net.load_state_dict(state)
    return net.requires_grad_(False).eval()


def some_z(count=64):
    return torch.from_numpy(keyed("generators/average", [count, 512], UNIT))


def stylegan1(genforce, edge, channels):
    """genforce's, with fewer channels."""
    genforce._RESOLUTIONS_TO_CHANNELS[edge] = channels
    net = genforce.StyleGANGeneratorModel(resolution=edge)
    filled(net, f"stylegan1-{edge}", STYLEGAN1, ("truncation.truncation", "blur.kernel", "w_avg", "lod"))
    net.truncation.w_avg.copy_(net.mapping(some_z()).mean(0))
    return net


def stylegan3(reference, config, edge, channels, base=None, **more):
    """T: kernels of 3; R: kernels of 1, twice the channels, radial filters. `channels`: at most; base: channels times cutoff, where they are fewer."""
    base = base or 4 * edge
    radial = dict(conv_kernel=1, use_radial_filters=True) if config == "r" else {}
    wide = 2 if config == "r" else 1
    kwargs = dict(channel_base=base * wide, channel_max=channels * wide, magnitude_ema_beta=0.9988915792636801, **radial)
    net = reference.networks.Generator(z_dim=512, c_dim=0, w_dim=512, img_resolution=edge, img_channels=3, mapping_kwargs={"num_layers": 2}, **kwargs, **more)
    kept = ("up_filter", "down_filter", "freqs", "phases", "transform", "w_avg")
    filled(net, f"stylegan3-{config}-{edge}", STYLEGAN3, kept)
    if config == "t":  # the released ones have the identity
        turn = 0.1
        net.synthesis.input.transform.copy_(torch.tensor([[math.cos(turn), math.sin(turn), turn], [-math.sin(turn), math.cos(turn), 0], [0, 0, 1]]))
    net.mapping.w_avg.copy_(net.mapping(some_z(), None)[:, 0].mean(0))
    return net


def genforce_file(net):
    """As its converter saves it: without what the model's settings tell."""
    state = net.state_dict()
    del state["truncation.truncation"]
    return saved(state, _use_new_zipfile_serialization=False)


def saved(value, **how):
    data = io.BytesIO()
    torch.save(value, data, **how)
    return data.getvalue()


def tensorflow_variables(net):
    """The variables of the three networks by TensorFlow's names: genforce's table, the other way around."""
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    shift = 10 - int(math.log2(net.resolution))
    found = {}
    for name, variable in net.pth_to_tf_var_mapping.items():
        if name not in state:
            continue
        if "ToRGB_lod" in variable:
            lod = int(variable[len("ToRGB_lod")])
            variable = variable.replace(f"lod{lod}", f"lod{lod - shift}")
        value = state[name]
        if "weight" in name and "dense" in name:
            value = value.transpose(1, 0)
        elif "weight" in name and "conv" in name:
            value = value.transpose(2, 3, 1, 0)
        found[variable] = np.ascontiguousarray(value) if value.ndim else value[()]
    return found


class Network:
    """What dnnlib.tflib.network.Network leaves of itself in a pickle."""

    def __init__(self, name, variables, components=None, **kwargs):
        self.state = dict(
            version=3,
            name=name,
            static_kwargs=dict(kwargs),
            components=dict(components or {}),
            build_module_src="raise RuntimeError('the source of the network stood here')\n",
            build_func_name=name,
            variables=list(variables.items()),
        )

    def __getstate__(self):
        return self.state


class OldPickler(pickle._Pickler):
    """Names numpy's functions as its versions before 2 do."""

    def save_global(self, obj, name=None):
        if getattr(obj, "__module__", "").startswith("numpy._core"):
            new, obj_name = obj.__module__, name or obj.__name__
            self.save(new.replace("numpy._core", "numpy.core"))
            self.save(obj_name)
            self.write(pickle.STACK_GLOBAL)
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def tensorflow_file(net, variables=None):
    """G, D and Gs, as Python 3.6 pickles them."""
    variables = variables or tensorflow_variables(net)
    edge = net.resolution if net else 4
    mapping = {name: value for name, value in variables.items() if name.startswith("Dense")}
    average = {"dlatent_avg": variables["dlatent_avg"]}
    synthesis = {name: value for name, value in variables.items() if name not in mapping and name not in average}

    def generator(name, factor):
        """Another generator's numbers are others."""
        parts = [{key: value * np.float32(factor) for key, value in part.items()} for part in (mapping, synthesis, average)]
        components = {"synthesis": Network("G_synthesis", parts[1]), "mapping": Network("G_mapping", parts[0])}
        return Network(name, parts[2], components, truncation_psi=0.7, truncation_cutoff=8, resolution=edge, num_channels=3, label_size=0)

    module = types.ModuleType("dnnlib.tflib.network")
    module.Network = Network
    sys.modules["dnnlib.tflib.network"] = module
    Network.__module__, Network.__qualname__ = module.__name__, "Network"
    discriminator = Network("D", {"lod": np.float32(0), "4x4/Dense1/weight": tiled("discriminator", [8, 1])}, resolution=edge)
    data = io.BytesIO()
    OldPickler(data, protocol=4).dump((generator("G", 0.5), discriminator, generator("Gs", 1)))
    return data.getvalue()


def lernapparat_name(variable):
    """Of a TensorFlow variable, without its network."""
    scope, *rest = variable.lower().split("/")
    if scope.startswith("dense"):
        return f"g_mapping.{scope}.{rest[0]}"
    if scope.startswith("torgb"):
        return f"g_synthesis.torgb.{rest[0]}" if scope == "torgb_lod0" else None
    if "x" not in scope:
        return None  # noise, lod and the mean of w are no trainables
    part, *end = rest
    if part == "const" and end == ["const"]:
        return f"g_synthesis.blocks.{scope}.const"
    if part == "const" and end == ["bias"]:
        return f"g_synthesis.blocks.{scope}.bias"
    half = "epi1" if part in ("const", "conv0_up") else "epi2"
    inner = {"noise": f"{half}.top_epi.noise", "stylemod": f"{half}.style_mod.lin"}.get(end[0])
    return ".".join(["g_synthesis.blocks", scope, *([inner, end[1]] if inner else [part, *end])])


def lernapparat_file(reference, net, base_channels, most):
    """Its state dict after the conversion, which leaves the blurs' kernels as they are."""
    parts = {"g_mapping": reference.G_mapping(), "g_synthesis": reference.G_synthesis(resolution=net.resolution, fmap_base=base_channels, fmap_max=most)}
    module = torch.nn.Sequential(collections.OrderedDict(parts))
    state = {}
    for variable, value in tensorflow_variables(net).items():
        name = lernapparat_name(variable)
        if name is None:
            continue
        order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(value.ndim) if name.endswith(".weight") else None
        state[name] = torch.from_numpy(value if order is None else value.transpose(order))
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("intermediate.kernel") for name in missing), (missing, unexpected)
    return saved(module.state_dict(), _use_new_zipfile_serialization=False)


def nvidia_file(reference, net, other):
    """A snapshot of a training. `other`: G, whose numbers are not those of G_ema."""
    discriminator = reference.older.Discriminator(c_dim=0, img_resolution=8, img_channels=3, channel_base=64, channel_max=4, epilogue_kwargs={"mbstd_group_size": 4})
    filled(discriminator, "discriminator", STYLEGAN3, ("resample_filter",))
    options = dict(class_name="training.dataset.ImageFolderDataset", path="data.zip", use_labels=False, max_size=None, xflip=True, resolution=net.img_resolution)
    return pickle.dumps(dict(G=other, D=discriminator, G_ema=net, training_set_kwargs=options, augment_pipe=None), protocol=4)


def stylegan2_file(reference):
    """The same container, another network."""
    net = reference.older.Generator(16, 0, 16, 16, 3, mapping_kwargs={"num_layers": 2}, channel_base=128, channel_max=8)
    filled(net, "stylegan2", STYLEGAN3, ("resample_filter", "w_avg"))
    return pickle.dumps(dict(G_ema=net, training_set_kwargs={}, augment_pipe=None), protocol=4)


def rosinality_file():
    """Names and shapes as the independent StyleGAN of rosinality/style-based-gan-pytorch has them, of a few layers and channels."""
    state = collections.OrderedDict()
    for i in range(1, 9):
        state[f"style.{2 * i - 1}.linear.weight_orig"] = short(f"rosinality/style{i}", [8, 8])
        state[f"style.{2 * i - 1}.linear.bias"] = torch.zeros(8)
    for i in range(2):
        for half in (1, 2):
            at = f"generator.progression.{i}"
            state[f"{at}.noise{half}.weight_orig"] = torch.zeros(1, 8, 1, 1)
            state[f"{at}.adain{half}.style.linear.weight_orig"] = short(f"rosinality/{i}/{half}", [16, 8])
            state[f"{at}.adain{half}.style.linear.bias"] = torch.ones(16)
            state[f"{at}.conv{half}.conv.weight_orig"] = short(f"rosinality/{i}/{half}/conv", [8, 8, 3, 3])
        state[f"generator.to_rgb.{i}.conv.weight_orig"] = short(f"rosinality/rgb{i}", [3, 8, 1, 1])
    return saved({"generator": state, "g_running": state}, _use_new_zipfile_serialization=False)
