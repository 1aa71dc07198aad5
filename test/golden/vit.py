"""Writes the goldens of vision transformers: transformers.safetensors and vit.json. Whole networks are timm's own module, ops PyTorch's functions.

What make.py says holds here, too; this needs timm besides:
    pip install timm==1.0.31
    python test/golden/vit.py            # writes them
    python test/golden/vit.py --check F  # loads weights.safetensors of a vit_b_16 run at 224 pixels into timm's vit_base_patch16_224, strictly
"""

import json
import sys
from functools import partial

import torch
import torch.nn.functional as F
from make import Golden, cases, distance, fill, float64, forward_backward, here  # before timm: it lets torchvision be imported
from keyed import keyed
from safetensors.numpy import load_file
from torch import nn

import timm
from timm.models.vision_transformer import VisionTransformer


class Op(nn.Module):
    """One op on N C H W, with its parameters under the names of a layer `op`."""

    def __init__(self, op, channels, positions, **settings):
        super().__init__()
        self.kind, self.settings = op, settings
        if op == "layerNorm":
            self.op = nn.LayerNorm(channels, settings["eps"])
        if op == "linear":
            self.op = nn.Linear(channels, settings["out"])
        if op == "tokens":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + positions, channels))

    def forward(self, x):
        n, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        if self.kind == "tokens":
            y = torch.cat([self.cls_token.expand(n, -1, -1), tokens], 1) + self.pos_embed
            return y.transpose(1, 2)[..., None]
        if self.kind == "attention":
            heads = self.settings["heads"]
            q, k, v = tokens.reshape(n, -1, 3, heads, channels // 3 // heads).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        elif self.kind == "gelu":
            y = tokens * torch.sigmoid(1.702 * tokens) if self.settings["quick"] else F.gelu(tokens)
        else:
            y = self.op(tokens)
        return y.transpose(1, 2).unflatten(2, (height, width))


def transformer_of(c):
    """timm's, whose CLIP variant has a norm before the blocks, no bias in the patches and quick GELU."""
    return VisionTransformer(
        img_size=c["size"], patch_size=c["patch"], embed_dim=c["width"], depth=c["depth"], num_heads=c["heads"], mlp_ratio=c["hidden"] / c["width"],
        num_classes=0, norm_layer=partial(nn.LayerNorm, eps=c["eps"]), pre_norm=c["clip"], act_layer="quick_gelu" if c["clip"] else None,
    )  # fmt: skip


def make_transformers():
    golden = Golden("transformers")
    golden.metadata["timm"] = timm.__version__
    for c in cases["tokenOps"]:
        settings = {name: value for name, value in c.items() if name not in ("key", "op", "batch", "channels", "height", "width")}
        module = Op(c["op"], c["channels"], c["height"] * c["width"], **settings)
        x = float64(keyed(f"{c['key']}/input", [c["batch"], c["channels"], c["height"], c["width"]], 1.7))
        forward_backward(golden, c["key"], module, x)
    for c in cases["transformers"]:
        x = float64(keyed(f"{c['key']}/input", [c["batch"], 3, c["size"], c["size"]], 1.7))
        forward_backward(golden, c["key"], transformer_of(c), x)
    golden.save()


def check_against_torch():
    """A block of timm's is torch.nn.TransformerEncoderLayer with the norm first, whose attention is torch.nn.MultiheadAttention."""
    c = cases["transformers"][0]
    theirs = transformer_of(c).double()
    fill(theirs, "check")
    block = theirs.blocks[0]
    layer = nn.TransformerEncoderLayer(
        c["width"], c["heads"], c["hidden"], dropout=0, activation="gelu", layer_norm_eps=c["eps"], batch_first=True, norm_first=True
    ).double()  # fmt: skip
    pairs = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1.", "linear2.": "mlp.fc2."}
    state = block.state_dict()
    renamed = {}
    for name in layer.state_dict():
        old = next((new + name.removeprefix(start) for start, new in pairs.items() if name.startswith(start)), name)
        renamed[name] = state[old]
    layer.load_state_dict(renamed)
    x = float64(keyed("check/tokens", [2, 9, c["width"]]))
    assert distance(layer(x), block(x)) < 1e-12
    print("  a block: torch.nn.TransformerEncoderLayer gives the same")


def make_names():
    """Names and shapes of timm's ViT-B/16 without its classifier, a line a tensor."""
    state = timm.create_model("vit_base_patch16_224", num_classes=0).state_dict()
    lines = [f"  {json.dumps(name)}: {json.dumps(list(value.shape))}" for name, value in state.items()]
    (here / "vit.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def check(file):
    """Loads a file that ComFace wrote into timm's ViT-B/16."""
    heads = ("projection.", "change.")
    state = {name: torch.from_numpy(value) for name, value in load_file(file).items() if not name.startswith(heads)}
    module = timm.create_model("vit_base_patch16_224", num_classes=0)
    print(module.load_state_dict(state, strict=True), f"{len(state)} tensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2])
    else:
        make_transformers()
        check_against_torch()
        make_names()
