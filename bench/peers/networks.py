"""ComFace's network in PyTorch, which the rivals in this folder train: ResNet-18 or 50 with torchvision's names or ViT-B/16 with timm's, projection
head, change head and both losses."""
import json
import struct

import torch
import torch.nn.functional as F
from torch import nn


def skip_of(channels, out, stride):
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class Basic(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.downsample = skip_of(channels, width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """torchvision's ResNet v1.5 block: the stride is in the 3x3 convolution."""

    def __init__(self, channels, width, stride):
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = skip_of(channels, out, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


DESIGNS = {"resnet18": (Basic, 1, [2, 2, 2, 2]), "resnet50": (Bottleneck, 4, [3, 4, 6, 3])}


class ResNet(nn.Module):
    def __init__(self, name="resnet50", width=64):
        super().__init__()
        block, expansion, counts = DESIGNS[name]
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(counts):
            blocks = []
            for index in range(count):
                blocks.append(block(channels, width << stage, 2 if index == 0 and stage > 0 else 1))
                channels = expansion * width << stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.embedding = channels

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, 1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, head_width=64, size=224, heads=12, depth=12):
        super().__init__()
        self.embedding = heads * head_width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, self.embedding, 16, 16)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embedding))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // 16) ** 2, self.embedding))
        self.blocks = nn.Sequential(*(Block(self.embedding, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(self.embedding, 1e-6)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 0]


class ComFace(nn.Module):
    """Backbone, projection head and change head: paper, section 3.2."""

    def __init__(self, name="resnet50", width=64, size=224):
        super().__init__()
        self.backbone = VisionTransformer(width, size) if name == "vit_b_16" else ResNet(name, width)
        h = self.backbone.embedding
        self.projection = nn.Sequential(nn.Linear(h, h), nn.ReLU(inplace=True), nn.Linear(h, 128))
        self.change = nn.Linear(h, 1)

    def forward(self, x, target):
        return self.loss(self.backbone(x), target)

    def loss(self, h, target):
        return sum(self.losses(h, target))

    def losses(self, h, target, temperature=0.1):
        n, h = len(target), h.float()
        inter = info_nce(F.normalize(self.projection(h[: 2 * n])), temperature)
        d = self.change(F.relu(h[2 * n :] - h[:n])).squeeze(1)
        return inter, F.mse_loss(d, target)


def info_nce(z, temperature):
    rows = len(z)
    s = z @ z.T / temperature
    s.fill_diagonal_(float("-inf"))
    return F.cross_entropy(s, (torch.arange(rows, device=z.device) + rows // 2) % rows)


def read_weights(path):
    """The float tensors of a safetensors file."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            flat = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=8 + length + begin)
            tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors


def load(model, weights):
    """Weights under ComFace's names: the backbone's have no prefix."""
    named = {name if name.startswith(("projection.", "change.")) else f"backbone.{name}": value for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(named, strict=False)
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")] + unexpected
    if wrong:
        raise ValueError(f"expected the same tensors but these differ: {wrong[:4]}")
