"""Writes test/golden/rivals: weights files as each of the paper's rivals saves its own, and what PyTorch makes of two pictures with them.

For whoever changes an import; neither users nor `npm test` need Python:
    pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 safetensors==0.8.0 brotli==1.2.1
    python test/golden/rivals.py                # writes them
    python test/golden/rivals.py --whole FOLDER # at full width and not compressed: COMFACE_RIVALS=FOLDER npx vitest run test/import.test.ts

The networks have all their layers, but 16 channels where the rivals' have 64, and numbers that repeat, so that the files stay small in git.
"""

import argparse
import collections
import io
import json
import math
import pathlib
import pickle
from functools import partial

import brotli
import numpy as np
import torch
import torch.nn.functional as F
from make import torchvision  # before timm: it lets torchvision be imported
from keyed import hash_of, keyed
from safetensors.numpy import save_file
from torch import nn

import timm

folder = pathlib.Path(__file__).parent / "rivals"
NUMBERS = 4096
base = keyed("rivals/base", [NUMBERS], math.sqrt(3))
small = keyed("rivals/small", [NUMBERS], 0.1)
scales = keyed("rivals/scales", [NUMBERS], 0.3, 1.0)
PATCH = 32
patches = torch.from_numpy(keyed("rivals/pictures", [2, 3, 7, 7], 0.5, 0.5))  # RGB from 0 to 1
pictures = patches.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)


def tiled(storage, name, shape):
    """The storage's numbers over and over, from a place told by the name."""
    begin = hash_of(name) % 1024
    return torch.from_numpy(np.resize(storage[begin : begin + 2048], math.prod(shape)).reshape(shape))


def weights(net, x):
    """Numbers for a network under its own names. Batch norms get the mean and variance of what comes in."""
    state = net.state_dict()
    is_bare = not any(name.endswith("weight") and value.dim() == 1 for name, value in state.items())
    is_transformer = not is_bare and not any(name.endswith("running_var") for name in state)
    for name, old in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif old.dim() == 1 and name.endswith("weight"):
            state[name] = tiled(scales, name, list(old.shape))
        elif is_bare:
            # No norm keeps the size of what is passed on: a power of two near He's deviation does, and numbers still repeat.
            near = 2.0 ** round(math.log2(math.sqrt(2 / old[0].numel()))) if old.dim() == 4 else 1
            state[name] = tiled(base if old.dim() == 4 else small, name, list(old.shape)) * near
        elif not name.endswith(("running_mean", "running_var")):
            state[name] = tiled(small if is_transformer else base, name, list(old.shape))
    net.load_state_dict(state)
    net.double().eval()

    def measure(name):
        def hook(module, inputs):
            x = inputs[0].transpose(0, 1).flatten(1)
            mean = x.mean(1)
            # Few digits, which are smaller in git; a channel that hardly varies must not make much of the rest.
            for key, value in ("running_mean", mean), ("running_var", x.var(1) + (0.05 * mean) ** 2 + 1e-3):
                state[f"{name}.{key}"] = torch.tensor([float(f"{number:.2g}") for number in value.tolist()])
                getattr(module, key).copy_(state[f"{name}.{key}"].double())

        return hook

    hooks = [module.register_forward_pre_hook(measure(name)) for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return state


class ResNet(torchvision.models.ResNet):
    """torchvision's, of any width and without its classifier."""

    def __init__(self, width, block=torchvision.models.resnet.Bottleneck, layers=(3, 4, 6, 3)):
        super().__init__(block, list(layers))
        self.inplanes = width
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        for stage, count in enumerate(layers):
            setattr(self, f"layer{stage + 1}", self._make_layer(block, width << stage, count, 2 if stage else 1))
        self.fc = nn.Identity()


def caffe(width):
    """The stride on the first convolution of a block, a pool without padding that rounds up."""
    net = ResNet(width)
    net.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
    for layer in (net.layer2, net.layer3, net.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return net


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class ClipBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGelu(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(collections.OrderedDict(layers))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ClipVision(nn.Module):
    """The vision tower of CLIP (Radford et al., 2021) up to its last norm, by the names of its weights."""

    def __init__(self, width=768, heads=12, depth=12, size=224):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 16, 16, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((size // 16) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(ClipBlock(width, heads) for _ in range(depth)))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer.resblocks(self.ln_pre(x))[:, 0])


class EfficientAttention(nn.Module):
    """What PCL has between convolutions: softmax(query) over channels, softmax(key) over positions (Shen et al., 2021)."""

    def __init__(self, width):
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(width, width, 1) for _ in range(3))

    def forward(self, x):
        query, key, value = self.g(x).flatten(2).softmax(1), self.theta(x).flatten(2).softmax(2), self.phi(x).flatten(2)
        context = torch.einsum("nct,nkt->nck", value, key)
        return F.leaky_relu(x + torch.einsum("nck,nkt->nct", context, query).unflatten(2, x.shape[2:]), 0.1)


class LeakyBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x):
        return F.leaky_relu(x + self.conv2(F.leaky_relu(self.conv1(x), 0.1)), 0.1)


class FaceCycle(nn.Module):
    """The encoder of PCL (Liu et al., 2023), which is FaceCycle's with two ends, by the names of its weights; gives the expressions' map."""

    def __init__(self, width):
        super().__init__()

        def two(into, middle, out, kernel=3, stride=1, between=()):
            first, second = nn.Conv2d(into, middle, kernel, stride, kernel // 2), nn.Conv2d(middle, out, 3, 1, 1)
            return nn.Sequential(first, nn.LeakyReLU(0.1), *between, second, nn.LeakyReLU(0.1))

        self.conv1 = two(3, width, width, 7, 2)
        self.layer1 = two(width, width, width, between=[EfficientAttention(width)])
        self.layer2_1 = two(width, 2 * width, 2 * width, stride=2, between=[EfficientAttention(2 * width)])
        self.resblock1, self.resblock2 = LeakyBlock(2 * width), LeakyBlock(2 * width)
        self.layer2_2 = two(2 * width, 2 * width, 2 * width, stride=2)
        self.layer3_1 = two(2 * width, 4 * width, 2 * width, stride=2)
        self.layer3_2_exp, self.layer3_2_pose = two(*[2 * width] * 3), two(*[2 * width] * 3)

    def forward(self, x):
        for part in (self.conv1, self.layer1, self.layer2_1, self.resblock1, self.resblock2, self.layer2_2, self.layer3_1, self.layer3_2_exp):
            x = part(x)
        return x.flatten(1)


def normalized(mean, std):
    return (pictures.double() - torch.tensor(mean).double().reshape(3, 1, 1)) / torch.tensor(std).double().reshape(3, 1, 1)


def in_bytes():
    """As VGGFace2's loader prepares a picture: BGR from 0 to 255, minus the mean."""
    return pictures.double().flip(1) * 255 - torch.tensor([91.4953, 103.8827, 131.0912]).double().reshape(3, 1, 1)


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def some(*names):
    """Heads that nobody imports."""
    return {name: torch.zeros(8, 16) for name in names}


def no_optimizer():
    return {"state": {}, "param_groups": [{"lr": 0.03, "momentum": 0.9, "nesterov": False, "params": [0, 1]}]}


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SWAV = ([0.485, 0.456, 0.406], [0.228, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


def rivals(width):
    """Name, network, input, content of the file and how it is saved."""
    old = {"_use_new_zipfile_serialization": False}
    basic = torchvision.models.resnet.BasicBlock

    def of(net, x):
        return net, weights(net, x), x

    net, state, x = of(ResNet(width), normalized(*IMAGENET))
    yield "imagenet", "resnet50-0676ba61.pth", net, x, {**state, **some("fc.weight", "fc.bias")}, {}
    net, state, x = of(ResNet(width, basic, (2, 2, 2, 2)), normalized(*IMAGENET))
    yield "imagenet", "resnet18-5c106cde.pth", net, x, collections.OrderedDict({**state, **some("fc.weight", "fc.bias")}), old
    net, state, x = of(caffe(width), in_bytes())
    arrays = {name: value.numpy() for name, value in {**state, **some("fc.weight", "fc.bias")}.items() if not name.endswith("tracked")}
    yield "vggface2", "resnet50_ft_weight.pkl", net, x, arrays, None
    net, state, x = of(ResNet(width), pictures.double())
    yield "simclr", "resnet50-1x.pth", net, x, {"state_dict": {**state, **some("fc.weight", "fc.bias")}}, {}
    net, state, x = of(ResNet(width), normalized(*IMAGENET))
    other = {name: value * 2 for name, value in list(state.items())[:12]}
    rest = some("module.queue", "module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.weight", "module.encoder_k.fc.0.weight")
    both = {**under("module.encoder_q.", state), **under("module.encoder_k.", other), **rest}
    content = {"epoch": 800, "arch": "resnet50", "state_dict": collections.OrderedDict(both), "optimizer": no_optimizer()}
    yield "mocov2", "moco_v2_800ep_pretrain.pth.tar", net, x, content, old
    net, state, x = of(ResNet(width), normalized(*SWAV))
    rest = some("module.projection_head.0.weight", "module.projection_head.3.bias", "module.prototypes.weight")
    yield "swav", "swav_800ep_pretrain.pth.tar", net, x, collections.OrderedDict({**under("module.", state), **rest}), old
    net, state, x = of(ResNet(width), normalized(*IMAGENET))
    yield "barlowtwins", "resnet50.pth", net, x, state, {}
    net, state, x = of(ResNet(width), normalized(*SWAV))
    rest = some("module.projection.0.weight", "module.prototypes.weight")
    yield "bulat", "flr_r50_vgg_face.pth", net, x, {"state_dict": {**under("module.base_net.", state), **rest}, "epoch": 30}, {}
    net, state, x = of(ClipVision(12 * width), normalized(*CLIP))
    rest = some("visual.proj", "token_embedding.weight", "positional_embedding", "transformer.resblocks.0.ln_1.weight", "text_projection", "logit_scale")
    yield "farl", "FaRL-Base-Patch16-LAIONFace20M-ep16.pth", net, x, {"state_dict": {**under("visual.", state), **rest}}, {}
    net, state, x = of(FaceCycle(width), pictures.double()[:, :, :100, :100])
    rest = some("module.exp_fc.0.weight", "module.pose_fc.3.running_mean", "module.decoder.fc.weight", "module.decoder.model.2.bias")
    content = {"epoch": 1000, "state_dict": collections.OrderedDict({**under("module.encoder.", state), **rest})}
    yield "pcl", "best.pth", net, x, content, {}
    net, state, x = of(timm.models.vision_transformer.VisionTransformer(embed_dim=12 * width, num_classes=0, norm_layer=partial(nn.LayerNorm, eps=1e-6)), normalized(*IMAGENET))
    rest = some("image_mlp.0.weight", "image_mlp.0.bias", "logit_scale")
    content = {"epoch": 35, "model": {**under("visual.", state), **rest}, "optimizer": no_optimizer(), "args": argparse.Namespace(lr=0.001, model="base")}
    yield "stablerep", "stablerep_base.pth", net, x, content, {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole")
    whole = parser.parse_args().whole
    target = pathlib.Path(whole) if whole else folder
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    embeddings, about = {}, []
    for name, file, net, x, content, how in rivals(64 if whole else 16):
        with torch.no_grad():
            h = net(x)
        data = io.BytesIO()
        if how is None:
            pickle.dump(content, data, protocol=2)
        else:
            torch.save(content, data, **how)
        if whole:
            (target / file).write_bytes(data.getvalue())
        else:
            (target / f"{file}.br").write_bytes(brotli.compress(data.getvalue(), quality=9, lgwin=24))
        print(f"{name}: {file}, |h| {h.norm(dim=1).tolist()}, apart {F.cosine_similarity(h[:1], h[1:]).item():.4f}")
        embeddings[file] = h.float().numpy()
        about.append({"as": name, "file": file, "width": h.shape[1], "size": x.shape[-1]})
    save_file(embeddings, target / "embeddings.safetensors")
    (target / "rivals.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    torch.manual_seed(1)
    main()
