"""Writes test/golden/generators: what the public implementations of StyleGAN and StyleGAN3 compute, op by op and as a whole, and files as each of
those projects saves its own, all with numbers of our own in place of weights.

For whoever changes a generator; neither users nor `npm test` need Python. references.py says at which commits.
    pip install torch==2.13.0 scipy==1.17.1 safetensors==0.8.0 brotli==1.2.1
    python test/golden/generators.py --stylegan3 FOLDER --interfacegan FOLDER --lernapparat FOLDER && npx biome check --write test/golden/generators
    ... --whole FOLDER  # instead: layers, files and pictures at full size. COMFACE_GENERATORS=FOLDER npx vitest run test/generatorlayers.test.ts

Everything is computed in double, but what is of full size in float32. Inputs are keyed (keyed.py) or tiled (generatorfiles.py) and not stored.
"""

import argparse
import json
import math
import pathlib

import brotli
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

import generatorfiles as files
import references
from generatorfiles import UNIT, tiled
from keyed import keyed, stored

folder = pathlib.Path(__file__).parent / "generators"
NUMPY = lambda value: value.detach().numpy()


class Op:
    """One op: its record for the graph, and numbers for its input and parameters."""

    def __init__(self, key, op, shape, **record):
        self.key, self.parameters, self.given = key, {}, {}
        n, c, h, w = shape
        self.about = {"key": key, "batch": n, "input": [c, h, w], "record": {"op": op, **record}, "parameters": self.parameters}
        self.x = self.number("input", shape, 2, 0.5, False)

    def number(self, leaf, shape, spread=1.0, center=0.0, is_parameter=True):
        if is_parameter:
            self.parameters[leaf] = {"spread": spread, "center": center}
        return torch.from_numpy(keyed(f"generators/{self.key}/{leaf}", shape, spread, center)).double()

    def store(self, leaf, value):
        """A parameter that no key makes."""
        self.parameters[leaf] = None
        self.given[f"{self.key}/{leaf}"] = NUMPY(value).astype(np.float32)
        return value

    def style(self, channels):
        """A vector for each sample out of the image: a linear layer of its first position."""
        self.about["style"] = channels
        first = self.x[:, :, 0, 0]
        weight = self.number("style.weight", [channels, first.shape[1]], 1 / math.sqrt(first.shape[1]))
        return first @ weight.T + self.number("style.bias", [channels], 1, 1)


class Given(nn.Module):
    """In place of a layer whose result is there already, or without one passes its input on."""

    def __init__(self, value=None):
        super().__init__()
        self.value = value

    def forward(self, x, *_):
        return x if self.value is None else self.value


def vectors(x):
    return x[:, :, 0, 0]


def stylegan1_ops(genforce):
    op = Op("pixelNorm", "pixelNorm", (3, 21, 1, 1), eps=1e-8)
    yield op, genforce.PixelNormLayer()(vectors(op.x))
    op = Op("upsample", "upsample", (2, 5, 3, 4), up=2)
    yield op, genforce.ResolutionScalingLayer()(op.x)
    op = Op("blur", "blur", (2, 19, 6, 5))
    yield op, genforce.BlurLayer(19).double()(op.x)
    op = Op("constant", "constant", (3, 4, 1, 1), out=6, height=4, width=4)
    block = genforce.FirstConvBlock(6).double()
    block.first_layer.data = op.number("weight", [1, 6, 4, 4])
    block.epilogue = Given()
    yield op, block(vectors(op.x))
    for key, shape in ("styleEpilogue", (2, 6, 8, 8)), ("styleEpilogue of odd sizes", (3, 17, 5, 7)):
        op = Op(key, "styleEpilogue", shape, slope=0.2, eps=1e-8)
        block = genforce.EpilogueBlock(2, shape[1]).double()
        block.apply_noise.noise = op.number("noise", [1, 1, *shape[2:]], UNIT)
        block.apply_noise.weight.data = op.number("noiseWeight", [shape[1]], 0.5)
        block.bias.data = op.number("bias", [shape[1]], 0.5)
        block.style_mod.dense = Given(op.style(2 * shape[1]))
        # The epilogue's activation works in place.
        yield op, block(op.x.clone(), vectors(op.x))
    for kernel, pad, into, out in (4, 1, 6, 5), (3, 1, 17, 19), (4, 1, 32, 16):
        record = dict(out=out, kernel=kernel, stride=2, pad=pad)
        op = Op(f"convTranspose of {kernel}, {into} to {out}", "convTranspose", (2, into, 5, 6), **record)
        weight = op.number("weight", [into, out, kernel, kernel], 1 / math.sqrt(into))
        yield op, nn.functional.conv_transpose2d(op.x, weight, stride=2, padding=pad)


def fourier_ops(reference):
    turned = [[0.8, -0.5, 0.3], [0.7, 1.6, -0.2], [0, 0, 1]]
    cases = [("", 36, 36, 16, 2, np.eye(3)), (" of other edges", 9, 7, 16, 2, np.eye(3)), (" transformed", 12, 12, 16, 4, np.array(turned))]
    for key, height, width, rate, bandwidth, transform in cases:
        record = dict(out=10, height=height, width=width, rate=rate, bandwidth=bandwidth)
        op = Op(f"fourierFeatures{key}", "fourierFeatures", (2, 4, 1, 1), **record)
        with references.in_double(reference):
            net = reference.networks.SynthesisInput(w_dim=4, channels=10, size=[width, height], sampling_rate=rate, bandwidth=bandwidth)
            net.affine = nn.Identity()
            net.weight.data = torch.eye(10) * math.sqrt(10)
            net.freqs = op.number("freqs", [10, 2], bandwidth)
            net.phases = op.number("phases", [10], 0.5)
            net.transform = op.store("transform", torch.from_numpy(transform).float()).double()
            result = net(vectors(op.x))
        yield op, result


def modulated_ops(reference):
    for kernel, into, out, demodulate, gain in (3, 6, 5, True, 0.7), (1, 19, 33, True, 1.3), (3, 16, 16, True, 1), (1, 8, 3, False, 0.6):
        record = dict(out=out, kernel=kernel, pad=kernel - 1, demodulate=demodulate, eps=1e-8)
        op = Op(f"modulatedConv of {kernel}, {into} to {out}", "modulatedConv", (3, into, 7, 6), **record)
        weight, style = op.number("weight", [out, into, kernel, kernel]), op.style(into)
        input_gain = op.store("gain", torch.tensor([gain]).float()).double()
        yield op, reference.networks.modulated_conv2d(op.x, weight, style, demodulate, kernel - 1, input_gain.reshape([]))


def narrow(reference, config):
    """The synthesis network of 1024 pixels, two channels wide: for its filters."""
    radial = dict(conv_kernel=1, use_radial_filters=True) if config == "r" else {}
    return reference.networks.SynthesisNetwork(4, 1024, 3, channel_max=2, **radial)


def filter_record(layer):
    taps = lambda filters: 0 if filters is None else filters.shape[-1]
    low, high = layer.padding[:2]
    about = dict(up=layer.up_factor, down=layer.down_factor, upTaps=taps(layer.up_filter), downTaps=taps(layer.down_filter), padLow=low, padHigh=high)
    is_last = layer.is_torgb
    about |= dict(radial=layer.down_filter is not None and layer.down_filter.ndim == 2, slope=1 if is_last else 0.2, gain=1 if is_last else math.sqrt(2))
    return about | {"clamp": layer.conv_clamp}


def filtered(reference, op, up_filter, down_filter):
    """In the record's terms."""
    record = op.about["record"]
    bias = op.number("bias", [op.x.shape[1]], 0.5)
    pads = [record["padLow"], record["padHigh"]] * 2
    how = {name: record[name] for name in ("up", "down", "gain", "slope", "clamp")}
    return reference.filtered.filtered_lrelu(op.x, fu=up_filter, fd=down_filter, b=bias, padding=pads, **how)


def filter_ops(reference):
    """Every pair of factors, pads and filters of the released networks; then filters that are not symmetric, and a clamp that is reached."""
    seen = set()
    for config in "tr":
        for layer in narrow(reference, config).children():
            if not isinstance(layer, reference.networks.SynthesisLayer):
                continue
            record = filter_record(layer)
            kind = tuple(record.values())
            if kind in seen:
                continue
            seen.add(kind)
            op = Op(f"filteredRelu like {config}'s of {layer.out_size[0]} pixels, {len(seen)}", "filteredRelu", (1, 3, 27, 25), **record)
            up, down = (None if f is None else op.store(leaf, f) for leaf, f in (("upFilter", layer.up_filter), ("downFilter", layer.down_filter)))
            yield op, filtered(reference, op, up, down)
    for up, down, up_taps, down_taps, low, high, radial in (2, 2, 5, 4, 3, -2, False), (4, 2, 7, 6, -3, 5, True), (1, 3, 0, 3, 2, 1, False), (3, 1, 6, 0, -4, 0, False):
        record = dict(up=up, down=down, upTaps=up_taps, downTaps=down_taps, padLow=low, padHigh=high, radial=radial, slope=0.2, gain=1.5, clamp=1)
        op = Op(f"filteredRelu of {up_taps} and {down_taps} odd taps, {up} up, {down} down", "filteredRelu", (2, 17, 9, 11), **record)
        up_filter = op.number("upFilter", [up_taps], 0.5).float() if up_taps else None
        down_filter = op.number("downFilter", [down_taps] * (2 if radial else 1), 0.5).float() if down_taps else None
        yield op, filtered(reference, op, up_filter, down_filter)


def save_all(tensors, path):
    save_file(tensors, path)
    path.chmod(0o644)


def write_ops(refs):
    tensors, about = {}, []
    for ops in (stylegan1_ops(refs.genforce), fourier_ops(refs.stylegan3), modulated_ops(refs.stylegan3), filter_ops(refs.stylegan3)):
        for op, result in ops:
            name, value = stored(f"{op.key}/result", NUMPY(result))
            tensors |= {name: np.ascontiguousarray(value, np.float32), **op.given}
            about.append(op.about | {"shape": list(result.shape)})
            print(f"{op.key}: {list(result.shape)}, rms {result.square().mean().sqrt().item():.3g}")
    save_all(tensors, folder / "ops.safetensors")
    (folder / "ops.json").write_text(json.dumps(about) + "\n")


def layer_table(net):
    """What a layer of StyleGAN3's synthesis is, in the records' terms."""
    rows = [{"channels": net.input.channels, "size": int(net.input.size[0]), "rate": float(net.input.sampling_rate), "bandwidth": float(net.input.bandwidth)}]
    for name in net.layer_names:
        layer = getattr(net, name)
        about = dict(name=name, into=layer.in_channels, out=layer.out_channels, kernel=layer.conv_kernel, demodulate=not layer.is_torgb)
        rows.append(about | filter_record(layer) | dict(inSize=int(layer.in_size[0]), outSize=int(layer.out_size[0])))
    return rows


def released(reference, config):
    """The synthesis network of the released models."""
    radial = dict(conv_kernel=1, use_radial_filters=True, channel_base=65536, channel_max=1024) if config == "r" else {}
    return reference.networks.SynthesisNetwork(512, 1024, 3, **radial)


def latents():
    return torch.from_numpy(keyed("generators/z", [2, 512], UNIT)).double()


def direction():
    n = keyed("generators/direction", [512]).astype(np.float64)
    return torch.from_numpy((n / np.linalg.norm(n)).astype(np.float32)).double()


ALPHA = 3


def of_stylegan1(net):
    """w, w+ after truncation and a picture whose first eight layers were edited."""
    w = net.mapping(latents())
    whole = net.truncation(w)
    edited = whole.clone()
    edited[:, :8] += ALPHA * direction()
    return {"w": w, "wPlus": whole, "picture": net.synthesis(whole), "edited": net.synthesis(edited)}


def of_stylegan3(net):
    whole = net.mapping(latents(), None, truncation_psi=0.7)
    edited = whole + ALPHA * direction()
    pictures = {name: net.synthesis(ws) for name, ws in (("picture", whole), ("edited", edited))}
    return {"w": net.mapping(latents(), None)[:, 0], "wPlus": whole, **pictures}


def keep(name, data):
    (folder / f"{name}.br").write_bytes(brotli.compress(data, quality=11, lgwin=24))
    print(f"{name}: {len(data):,} bytes, {(folder / f'{name}.br').stat().st_size:,} in git")


def write_files(refs):
    """Files, and the pictures of their networks."""
    tensors, about = {}, []

    def add(key, results, layers, **named):
        for name, value in results.items():
            where, numbers = stored(f"{key}/{name}", NUMPY(value))
            tensors[where] = np.ascontiguousarray(numbers, np.float32)
            print(f"{key}: {name} {list(value.shape)}, rms {value.square().mean().sqrt().item():.3g}")
        for file, data in named["files"].items():
            keep(file, data)
        kind, *_, edge = key.split("-")
        about.append({"key": key, "generator": kind, "size": int(edge), "layers": layers, "files": list(named["files"])})

    for edge, channels in (16, [8] * 4), (128, [16] * 6 + [8]):
        net = files.stylegan1(refs.genforce, edge, channels)
        made = {f"stylegan1-{edge}.genforce.pth": files.genforce_file(net)}
        if edge == 128:
            made["stylegan1-128.tensorflow.pkl"] = files.tensorflow_file(net)
            made["stylegan1-128.lernapparat.pt"] = files.lernapparat_file(refs.lernapparat, net, 512, 16)
        add(f"stylegan1-{edge}", of_stylegan1(net.double()), 2 * int(math.log2(edge)) - 2, files=made)
    for config, edge in ("t", 64), ("r", 32):
        net = files.stylegan3(refs.stylegan3, config, edge, 8)
        other = files.stylegan3(refs.stylegan3, config, edge, 8)
        for value in other.parameters():
            value.mul_(0.5)
        made = {f"stylegan3-{config}-{edge}.pkl": files.nvidia_file(refs.stylegan3, net, other)}
        state = net.state_dict()
        if config == "r":
            del state["synthesis.input.transform"]  # as some copies lack it; it is the identity
            made["stylegan3-r-32.pt"] = files.saved(state)
        table = layer_table(net.synthesis)
        with references.in_double(refs.stylegan3):
            results = of_stylegan3(references.double(net))
        add(f"stylegan3-{config}-{edge}", results, 16, files=made)
        about[-1]["table"] = table
    # Small, for the figure that changes bytes of files.
    small = refs.stylegan3.networks.FullyConnectedLayer(2, 3)
    (folder / "module.pkl").write_bytes(files.pickle.dumps({"G_ema": small, "training_set_kwargs": {}}, protocol=4))
    (folder / "network.pkl").write_bytes(files.tensorflow_file(None, {"Dense0/weight": np.ones((2, 3), np.float32), "dlatent_avg": np.ones(3, np.float32)}))
    keep("stylegan2-16.pkl", files.stylegan2_file(refs.stylegan3))
    keep("rosinality.model", files.rosinality_file())
    save_all(tensors, folder / "pictures.safetensors")
    (folder / "pictures.json").write_text(json.dumps(about, indent=1) + "\n")


SAMPLES, STEP = 2048, 1_000_003


def summary(value):
    """Of a picture too large to keep: numbers here and there, and the sums along each of its axes."""
    y = NUMPY(value)[0].astype(np.float64)
    flat = y.reshape(-1)
    at = np.arange(SAMPLES, dtype=np.int64) * STEP % flat.size
    sums = {"channels": y.sum((1, 2)), "rows": y.sum((0, 2)), "columns": y.sum((0, 1))}
    return {"samples": flat[at], **sums}


def number(key, shape, spread=1.0, center=0.0):
    return torch.from_numpy(tiled(f"generators/{key}", shape, spread, center))


def in_parts(filtered):
    """The filters of a few channels at a time: what lies between them is 16 times a picture, or more."""

    def call(x, b, **how):
        return torch.cat([filtered(x=part, b=bias, **how) for part, bias in zip(x.split(16, 1), b.split(16))], 1)

    return call


def whole_stylegan3(reference, config):
    """Each layer of the released networks on an input of small numbers, convolution and filtered leaky ReLU, and its filters."""
    net = released(reference, config)
    for name in net.layer_names:
        layer, key = getattr(net, name), f"{config}/{name}"
        into = layer.in_channels
        x = number(f"{key}/input", [1, into, int(layer.in_size[1]), int(layer.in_size[0])], 0.1)
        layer.weight.data = number(f"{key}/weight", list(layer.weight.shape))
        layer.bias.data = number(f"{key}/bias", [layer.out_channels], 0.1)
        layer.magnitude_ema.fill_(0.25)
        scale = math.sqrt(into) if layer.is_torgb else 1  # which is folded into the style
        style = number(f"{key}/style", [1, into], 0.5, 1)
        layer.affine = Given(style * scale)
        layer.w_dim = into
        result = layer(x, style)
        filters = {"upFilter": layer.up_filter, "downFilter": layer.down_filter}
        yield key, result, {leaf: NUMPY(value) for leaf, value in filters.items() if value is not None}


def whole_stylegan1(genforce):
    channels = genforce._RESOLUTIONS_TO_CHANNELS[1024]
    for index in range(1, 18):
        size, key, is_up = 4 << index // 2, f"stylegan1/{index}", index % 2 == 0
        out = channels[index // 2 + 1]
        into = channels[index // 2] if is_up else out
        block = (genforce.UpConvBlock if is_up else genforce.ConvBlock)(index, into, out)
        weight = block.conv.weight if hasattr(block, "conv") else block.weight
        weight.data = number(f"{key}/weight", list(weight.shape), UNIT)
        block.epilogue.apply_noise.noise = number(f"{key}/noise", [1, 1, size, size], UNIT)
        block.epilogue.apply_noise.weight.data = number(f"{key}/noiseWeight", [out], 0.5)
        block.epilogue.bias.data = number(f"{key}/bias", [out], 0.5)
        block.epilogue.style_mod.dense = Given(number(f"{key}/style", [1, 2 * out], 0.5))
        edge = size // 2 if is_up else size
        yield key, block(number(f"{key}/input", [1, into, edge, edge]), torch.zeros(1, 1)), {}


def write_pictures(refs, target):
    """Files as large as the released ones, and one picture of each."""
    tensors = {}

    def add(name, data, results):
        (target / name).write_bytes(data)
        for key, value in {"w": results["w"][0], **summary(results["picture"])}.items():
            tensors[f"{name}/{key}"] = np.ascontiguousarray(value, np.float32)
        print(f"{name}: {len(data):,} bytes, rms {results['picture'].square().mean().sqrt().item():.3g}", flush=True)
        save_file(tensors, target / "pictures.safetensors")

    z = latents()[:1].float()
    net = files.stylegan1(refs.genforce, 1024, refs.genforce._RESOLUTIONS_TO_CHANNELS[1024])
    w = net.mapping(z)
    add("stylegan1-1024.pth", files.genforce_file(net), {"w": w, "picture": net.synthesis(net.truncation(w))})
    for config in "tr":
        net = files.stylegan3(refs.stylegan3, config, 1024, 512, 32768)
        w, picture = net.mapping(z, None)[:, 0], net.synthesis(net.mapping(z, None, truncation_psi=0.7))
        add(f"stylegan3-{config}-1024.pkl", files.nvidia_file(refs.stylegan3, net, net), {"w": w, "picture": picture})


def write_whole(refs, target):
    target.mkdir(exist_ok=True, parents=True)
    refs.stylegan3.filtered.filtered_lrelu = in_parts(refs.stylegan3.filtered._filtered_lrelu_ref)
    write_pictures(refs, target)
    tensors = {}
    for layers in (whole_stylegan1(refs.genforce), whole_stylegan3(refs.stylegan3, "t"), whole_stylegan3(refs.stylegan3, "r")):
        for key, value, more in layers:
            for name, numbers in (summary(value) | more).items():
                tensors[f"{key}/{name}"] = np.ascontiguousarray(numbers, np.float32)
            print(f"{key}: {list(value.shape)}, rms {value.square().mean().sqrt().item():.3g}", flush=True)
            save_file(tensors, target / "layers.safetensors")


def main():
    parser = argparse.ArgumentParser()
    for name in ("stylegan3", "interfacegan", "lernapparat"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--whole")
    args = parser.parse_args()
    torch.manual_seed(1)
    refs = argparse.Namespace(
        stylegan3=references.stylegan3(args.stylegan3), genforce=references.genforce(args.interfacegan), lernapparat=references.lernapparat(args.lernapparat)
    )
    references.without_source(refs.stylegan3.networks, refs.stylegan3.older)
    with torch.no_grad():
        if args.whole:
            write_whole(refs, pathlib.Path(args.whole))
            return
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        write_ops(refs)
        write_files(refs)
        tables = {config: layer_table(released(refs.stylegan3, config)) for config in "tr"}
        (folder / "tables.json").write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
