"""Writes test/golden/rivals: weights files as each of the paper's rivals saves its own, and what PyTorch makes of two pictures with them.

For whoever changes an import; neither users nor `npm test` need Python:
    pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 safetensors==0.8.0
    python test/golden/rivals.py                # writes them
    python test/golden/rivals.py --whole FOLDER # the same at their whole size of bytes, with the networks' own random weights

The networks have their whole size, the files do not: every large tensor is a view with strides of one small storage, which torch.save keeps as it is.
The pickle of VGGFace2 holds whole arrays, so its network is narrow, and its numbers repeat, so that gzip has something to do.
"""

import argparse
import collections
import gzip
import json
import math
import pathlib
import pickle
import random

import numpy as np
import torch
import torch.nn.functional as F
from make import torchvision  # before timm: it lets torchvision be imported
from keyed import hash_of, keyed
from safetensors.numpy import save_file
from torch import nn

import timm

folder = pathlib.Path(__file__).parent / "rivals"
NUMBERS = 8192
base = torch.from_numpy(keyed("rivals/base", [NUMBERS], math.sqrt(3)))
small = torch.from_numpy(keyed("rivals/small", [NUMBERS], 0.05))
scales = torch.from_numpy(keyed("rivals/scales", [NUMBERS], 0.3, 1.0))
pictures = torch.from_numpy(keyed("rivals/pictures", [2, 3, 224, 224], 0.5, 0.5))  # RGB from 0 to 1


def view(storage, name, shape):
    """A tensor over `storage` whose strides and offset are told by its name."""
    draw = random.Random(hash_of(name))
    axes = [i for i, size in enumerate(shape) if size > 1]
    strides = [1] * len(shape)
    room = NUMBERS - 1
    for left, i in zip(range(len(axes), 0, -1), axes):
        strides[i] = draw.randint(1, max(1, room // left // (shape[i] - 1)))
        room -= strides[i] * (shape[i] - 1)
    return storage.as_strided(shape, strides, draw.randint(0, room))


def tiled(storage, name, shape):
    """The storage's numbers over and over, from a place told by the name."""
    begin = hash_of(name) % 1024
    return torch.from_numpy(np.resize(storage.numpy()[begin : begin + 2048], math.prod(shape)).reshape(shape))


def weights(net, make):
    """Numbers for a network under its own names. Batch norms get the mean and variance of what comes in, one number for all channels."""
    state = net.state_dict()
    isTransformer = not any(name.endswith("running_var") for name in state)
    for name, old in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif old.dim() == 1 and name.endswith("weight"):
            state[name] = make(scales, name, list(old.shape))
        else:
            state[name] = make(small if isTransformer else base, name, list(old.shape))
    net.load_state_dict({name: value.double().abs() + 1 if name.endswith("running_var") else value.double() for name, value in state.items()})
    net.double().eval()
    found = {}

    def measure(name):
        def hook(module, inputs):
            found[f"{name}.running_mean"], found[f"{name}.running_var"] = inputs[0].mean().float(), inputs[0].var().float()
            module.running_mean.fill_(found[f"{name}.running_mean"].double())
            module.running_var.fill_(found[f"{name}.running_var"].double())

        return hook

    hooks = [module.register_forward_pre_hook(measure(name)) for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        net(pictures.double())
    for hook in hooks:
        hook.remove()
    for name, value in found.items():
        whole = make is not view
        state[name] = torch.full(state[name].shape, value.item()) if whole else value.expand(state[name].shape)
    return state


def resnet(name="resnet50", **how):
    net = getattr(torchvision.models, name)(**how)
    net.fc = nn.Identity()
    return net


class Narrow(torchvision.models.ResNet):
    """torchvision's with other widths."""

    def __init__(self, block, layers, width):
        super().__init__(block, layers)
        self.inplanes = width
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        for stage, count in enumerate(layers):
            setattr(self, f"layer{stage + 1}", self._make_layer(block, width << stage, count, 2 if stage else 1))
        self.fc = nn.Identity()


def caffe(width):
    """The stride on the first convolution of a block, a pool without padding that rounds up."""
    net = Narrow(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3], width)
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


def normalized(mean, std):
    return (pictures.double() - torch.tensor(mean).double().reshape(3, 1, 1)) / torch.tensor(std).double().reshape(3, 1, 1)


def in_bytes():
    """As VGGFace2's loader prepares a picture: BGR from 0 to 255, minus the mean."""
    return pictures.double().flip(1) * 255 - torch.tensor([91.4953, 103.8827, 131.0912]).double().reshape(3, 1, 1)


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def some(*names):
    """Heads that nobody imports."""
    return {name: torch.zeros(1).expand(8, 16) for name in names}


def no_optimizer():
    return {"state": {}, "param_groups": [{"lr": 0.03, "momentum": 0.9, "nesterov": False, "params": [0, 1]}]}


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SWAV = ([0.485, 0.456, 0.406], [0.228, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


def rivals(make, pickled, width):
    """Name, network, input, content of the file and how it is saved; `pickled` makes the numbers of arrays, whose network has that width."""
    old = {"_use_new_zipfile_serialization": False}

    def of(net):
        return net, weights(net, make)

    net, state = of(resnet())
    yield "imagenet", "resnet50-0676ba61.pth", net, normalized(*IMAGENET), {**state, **some("fc.weight", "fc.bias")}, {}
    net, state = of(resnet("resnet18"))
    yield "imagenet", "resnet18-5c106cde.pth", net, normalized(*IMAGENET), collections.OrderedDict({**state, **some("fc.weight", "fc.bias")}), old
    net = caffe(width)
    state = weights(net, pickled)
    arrays = {name: value.numpy() for name, value in {**state, **some("fc.weight", "fc.bias")}.items() if not name.endswith("tracked")}
    yield "vggface2", "resnet50_ft_weight.pkl", net, in_bytes(), arrays, None
    net, state = of(resnet())
    yield "simclr", "resnet50-1x.pth", net, pictures.double(), {"state_dict": {**state, **some("fc.weight", "fc.bias")}}, {}
    net, state = of(resnet())
    other = {name: value * 2 for name, value in list(state.items())[:12]}
    rest = some("module.queue", "module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.weight", "module.encoder_k.fc.0.weight")
    both = {**under("module.encoder_q.", state), **under("module.encoder_k.", other), **rest}
    content = {"epoch": 800, "arch": "resnet50", "state_dict": collections.OrderedDict(both), "optimizer": no_optimizer()}
    yield "mocov2", "moco_v2_800ep_pretrain.pth.tar", net, normalized(*IMAGENET), content, old
    net, state = of(resnet())
    rest = some("module.projection_head.0.weight", "module.projection_head.3.bias", "module.prototypes.weight")
    yield "swav", "swav_800ep_pretrain.pth.tar", net, normalized(*SWAV), collections.OrderedDict({**under("module.", state), **rest}), old
    net, state = of(resnet())
    yield "barlowtwins", "resnet50.pth", net, normalized(*IMAGENET), state, {}
    net, state = of(resnet())
    rest = some("module.projection.0.weight", "module.prototypes.weight")
    yield "bulat", "flr_r50_vgg_face.pth", net, normalized(*SWAV), {"state_dict": {**under("module.base_net.", state), **rest}, "epoch": 30}, {}
    net, state = of(ClipVision())
    rest = some("visual.proj", "token_embedding.weight", "positional_embedding", "transformer.resblocks.0.ln_1.weight", "text_projection", "logit_scale")
    yield "farl", "FaRL-Base-Patch16-LAIONFace20M-ep16.pth", net, normalized(*CLIP), {"state_dict": {**under("visual.", state), **rest}}, {}
    net, state = of(timm.create_model("vit_base_patch16_224", num_classes=0))
    rest = some("image_mlp.0.weight", "image_mlp.0.bias", "logit_scale")
    content = {"epoch": 35, "model": {**under("visual.", state), **rest}, "optimizer": no_optimizer(), "args": argparse.Namespace(lr=0.001, model="base")}
    yield "stablerep", "stablerep_base.pth", net, normalized(*IMAGENET), content, {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole")
    whole = parser.parse_args().whole
    target = pathlib.Path(whole) if whole else folder
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    embeddings, about = {}, []
    copy = lambda storage, name, shape: view(storage, name, shape).clone()
    for name, file, net, x, content, how in rivals(copy, copy, 64) if whole else rivals(view, tiled, 16):
        with torch.no_grad():
            h = net(x)
        print(f"{name}: {file}, |h| {h.norm(dim=1).tolist()}, apart {F.cosine_similarity(h[:1], h[1:]).item():.4f}")
        if how is None:
            data = pickle.dumps(content, protocol=2)
            if whole:
                (target / file).write_bytes(data)
            else:
                (target / f"{file}.gz").write_bytes(gzip.compress(data, 9, mtime=0))
        else:
            torch.save(content, target / file, **how)
        embeddings[file] = h.float().numpy()
        about.append({"as": name, "file": file, "width": h.shape[1]})
    save_file(embeddings, target / "embeddings.safetensors")
    (target / "rivals.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    torch.manual_seed(1)
    main()
