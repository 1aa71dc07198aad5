"""Writes the goldens of this folder: what PyTorch computes, in double, where ComFace has to compute the same (figure N6).

For whoever changes a case; neither users nor `npm test` need Python:
    pip install torch==2.13.0 torchvision==0.28.0 numpy pillow safetensors
    python test/golden/make.py            # writes *.safetensors and resnet50.json
    python test/golden/make.py --check F  # loads weights.safetensors of a full-width ResNet-50 run into torchvision, strictly

cases.json lists the cases; inputs are keyed (keyed.py). The networks are torch.nn modules of our own, for torchvision's have one width;
at full width they are checked against torchvision. The formulas of the augmentations are torchvision's functions themselves.
Each file's metadata holds how far PyTorch in float32 is from PyTorch in double on the same case.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch import nn

from keyed import PURPOSE_AUGMENT, keyed, philox, sketch, stored, words

# Where torchvision's C++ operators do not load, their names alone let its Python part be imported.
operators = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision
import torchvision.transforms.functional as vision

here = pathlib.Path(__file__).parent
cases = json.loads((here / "cases.json").read_text())
DESIGNS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}


class Relus:
    """While `moving`, biases move a little so that no relu sees a value near 0: a kink that rounding crosses would be no difference of programs."""

    moving = False
    margin = math.inf  # smallest |input| of a relu since it was set

    @classmethod
    def apply(cls, x, norm):
        if cls.moving:
            x = x + cls.move(x, norm).reshape(1, -1, 1, 1)
        cls.margin = min(cls.margin, x.abs().min().item())
        return torch.relu(x)

    @staticmethod
    @torch.no_grad()
    def move(x, norm, reach=0.1):
        """Puts 0 into the middle of the widest gap between values within `reach`, per channel; returns the shifts."""
        before = norm.bias.clone()
        for channel, values in enumerate(x.transpose(0, 1).flatten(1).numpy()):
            near = np.sort(np.concatenate([values[np.abs(values) < reach], [-reach, reach]]))
            widest = np.argmax(np.diff(near))
            middle = (near[widest] + near[widest + 1]) / 2
            norm.bias[channel] = float(np.float32(before[channel].item() - middle))
        return norm.bias - before


class Block(nn.Module):
    """torchvision's BasicBlock and Bottleneck, names and order of the parameters too (stride on the 3x3 convolution)."""

    def __init__(self, channels, inner, out, stride, bottleneck):
        super().__init__()
        shapes = [(inner, 1, 1), (inner, 3, stride), (out, 1, 1)] if bottleneck else [(out, 3, stride), (out, 3, 1)]
        self.count = len(shapes)
        at = channels
        for number, (to, kernel, step) in enumerate(shapes, 1):
            setattr(self, f"conv{number}", nn.Conv2d(at, to, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(to))
            at = to
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            norm = getattr(self, f"bn{number}")
            y = norm(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = Relus.apply(y, norm)
        return Relus.apply(y + (x if self.downsample is None else self.downsample(x)), norm)


class ResNet(nn.Module):
    """torchvision's ResNet of any width, without the classifier."""

    def __init__(self, net, width=64):
        super().__init__()
        counts, bottleneck = DESIGNS[net]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, count in enumerate(counts):
            blocks = []
            for index in range(count):
                inner = width * 2**stage
                out = inner * (4 if bottleneck else 1)
                blocks.append(Block(channels, inner, out, 2 if stage > 0 and index == 0 else 1, bottleneck))
                channels = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.width = channels

    def forward(self, x):
        x = self.maxpool(Relus.apply(self.bn1(self.conv1(x)), self.bn1))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean((2, 3))


class ComFace(nn.Module):
    """The two heads on a backbone (paper, section 3.2): projection with InfoNCE, relu(h_y - h_x) with a linear layer and the squared error."""

    def __init__(self, backbone, width, hidden, out):
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
        self.change = nn.Linear(width, 1)
        self.margin = math.inf  # smallest |h_y - h_x| so far, but for two zeros: a kink that no bias moves

    def forward(self, images, targets, temperature):
        """images: x~_1..N, x~_N+1..2N, y~_1..N. Returns inter, intra."""
        h = self.backbone(images)
        n = len(targets)
        difference = h[2 * n :] - h[:n]
        self.margin = min(self.margin, difference.abs()[difference != 0].min().item())
        change = self.change(F.relu(difference)).squeeze(1)
        return info_nce(self.projection(h[: 2 * n]), temperature), F.mse_loss(change, targets)


def info_nce(rows, temperature):
    """Paper, equation (1): cross entropy of each row's cosine similarities with all others, the row of its pair being the right one."""
    z = F.normalize(rows)
    similarity = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    count = len(z)
    return F.cross_entropy(similarity, (torch.arange(count) + count // 2) % count)


def weights_of(case, named, residual=None):
    """Keyed weights by name and shape; keyed.ts states the same rule. residual: scale of the norms that end a residual branch, by name."""
    residual = residual or {}
    out = {}
    for name, shape in named.items():
        key = f"{case}/{name}"
        if name.endswith("running_mean"):
            out[name] = keyed(key, shape, 0.2)
        elif name.endswith("running_var"):
            out[name] = keyed(key, shape, 0.5, 1)
        elif len(shape) > 1:
            out[name] = keyed(key, shape, math.sqrt((6 if len(shape) == 4 else 3) / math.prod(shape[1:])))
        elif name.endswith("bias"):
            out[name] = keyed(key, shape, 0.2)
        else:
            scale = residual.get(name, 1)
            out[name] = keyed(key, shape, 0.3 * scale, scale)
    return out


def fill(module, case, prefix="", residual=None):
    """Keyed weights and statistics for a module whose tensors ComFace knows under `prefix` (backbone. is dropped)."""
    state = module.state_dict()
    named = {name.removeprefix("backbone."): list(v.shape) for name, v in state.items() if v.is_floating_point()}
    values = weights_of(case, {prefix + name: shape for name, shape in named.items()}, residual)
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(values[prefix + name.removeprefix("backbone.")]))


def residual_norms(net, scale):
    """The last norm of each branch, by name: their scales are small, for many layers of norms over few values amplify rounding."""
    counts, bottleneck = DESIGNS[net]
    last = "bn3" if bottleneck else "bn2"
    return {f"layer{s + 1}.{i}.{last}.weight": scale for s, count in enumerate(counts) for i in range(count)}


def float64(array):
    return torch.from_numpy(np.asarray(array)).double()


def distance(a, b):
    return ((a - b).norm() / b.norm().clamp_min(1e-6)).item() if (a - b).any() else 0.0


class Golden:
    """One file: tensors by name, and PyTorch's own error in float32 as metadata."""

    def __init__(self, name):
        self.name, self.tensors, self.metadata = name, {}, {"torch": torch.__version__}

    def add(self, name, value):
        key, array = stored(name, value.detach().numpy() if isinstance(value, torch.Tensor) else value)
        self.tensors[key] = np.require(array, dtype=np.float32, requirements="C")

    def save(self):
        path = here / f"{self.name}.safetensors"
        # One entry: safetensors writes several in a random order, and the same goldens have to be the same bytes.
        made = " | ".join(f"{name} {value}" for name, value in self.metadata.items())
        save_file(self.tensors, path, {"made": made})
        path.chmod(0o644)
        print(f"{path.name}: {path.stat().st_size:,} bytes; {made}")


def one_step(module, x, seed, prefix):
    """Output, gradients and statistics of one training step, and the output while not training with the new statistics."""
    x = x.clone().requires_grad_()
    module.train()
    module.zero_grad()
    output = module(x)
    output.backward(seed.to(output.dtype))
    result = {"output": output, "gradient/input": x.grad}
    for name, p in module.named_parameters():
        result[f"gradient/{prefix}{name}"] = p.grad
    for name, b in module.named_buffers():
        if b.is_floating_point():
            result[f"statistic/{prefix}{name}"] = b.clone()
    with torch.no_grad():
        result["inference"] = module.eval()(x)
    return {name: value.detach().clone() for name, value in result.items()}


def forward_backward(golden, case, module, x, prefix="", residual=None):
    """Adds one step of a module and the biases that moved."""
    fill(module, case, prefix, residual)
    module.double()
    started = {name: value.clone() for name, value in module.state_dict().items()}
    Relus.moving = True
    with torch.no_grad():
        module.train()(x)
    Relus.moving = False
    for name, value in module.named_parameters():
        if not torch.equal(value, started[name]):
            golden.add(f"{case}/bias/{prefix}{name}", value)
            started[name] = value.detach().clone()
    module.load_state_dict(started)
    Relus.margin = math.inf
    with torch.no_grad():
        shape = module.train()(x).shape
    margin = Relus.margin
    seed = float64(keyed(f"{case}/seed", list(shape)))
    module.load_state_dict(started)
    exact = one_step(module, x, seed, prefix)
    for name, value in exact.items():
        golden.add(f"{case}/{name}", value)
    module.load_state_dict(started)
    single = one_step(module.float(), x.float(), seed, prefix)
    worst = {}
    for name, value in exact.items():
        kind = name.split("/")[0]
        worst[kind] = max(worst.get(kind, 0), distance(single[name].double(), value))
    golden.metadata[case] = " ".join(f"{kind} {error:.1e}" for kind, error in worst.items())
    print(f"  {case}: nearest relu input {margin:.1e}")


def make_blocks():
    golden = Golden("blocks")
    for block in cases["blocks"]:
        case = f"{block['net']}.{block['block']}"
        module = ResNet(block["net"], 16).get_submodule(block["block"])
        x = float64(keyed(f"{case}/input", [block["batch"], block["channels"], block["size"], block["size"]], 1.7))
        forward_backward(golden, case, module, x, block["block"] + ".")
    golden.save()


def make_nets():
    golden = Golden("nets")
    for net in cases["nets"]:
        case = f"{net['net']}.{net['width']}"
        module = ResNet(net["net"], net["width"])
        x = float64(keyed(f"{case}/input", [net["batch"], 3, net["size"], net["size"]], 1.7))
        forward_backward(golden, case, module, x, residual=residual_norms(net["net"], net["residual"]))
        with torch.no_grad():
            stem = torch.relu(module.train().double().bn1(module.conv1(x)))
            best = F.unfold(F.pad(stem, (1, 1, 1, 1)).flatten(0, 1)[:, None], 3, stride=2).topk(2, dim=1).values
            gap = (best[:, 0] - best[:, 1])[best[:, 0] > 0].min().item()
        assert gap > 2e-6, f"{case}: two values of a pooling window are {gap:.1e} apart; choose another key"
    golden.save()
    for net in DESIGNS:
        check_against_torchvision(net)


def check_against_torchvision(net):
    """torchvision's module of this name with our weights gives our output and gradients, but for rounding in double."""
    ours = ResNet(net).train()
    x = torch.from_numpy(keyed("check", [2, 3, 64, 64]))
    theirs = getattr(torchvision.models, net)()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    outputs = []
    for module in (ours, theirs.train()):
        module.zero_grad()
        module.double()
        outputs.append(module(x.double()))
        outputs[-1].square().sum().backward()
    assert distance(outputs[0], outputs[1]) < 1e-12, net
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other and distance(a.grad, b.grad) < 1e-9, name
    print(f"  {net}: torchvision's gives the same")


def make_losses():
    """Embeddings come out of a linear layer that reads the identity: its gradient is then the gradient of the embeddings, transposed."""
    golden = Golden("losses")
    for index, c in enumerate(cases["infoNce"]):
        case = f"infoNce.{index}"
        rows = float64(keyed(f"{case}/rows", [c["channels"], 2 * c["pairs"]])).requires_grad_()
        loss = info_nce(rows.T, c["temperature"])
        loss.backward()
        golden.add(f"{case}/loss", loss[None])
        golden.add(f"{case}/gradient/rows.weight", rows.grad)
    for index, c in enumerate(cases["heads"]):
        case = f"heads.{index}"
        module = ComFace(nn.Linear(3 * c["pairs"], c["embedding"], bias=False), c["embedding"], c["hidden"], c["out"])
        shapes = {name.replace("backbone", "avgpool"): p for name, p in module.named_parameters()}
        values = weights_of(case, {name: list(p.shape) for name, p in shapes.items()})
        values["avgpool.weight"] = keyed(f"{case}/avgpool.weight", list(shapes["avgpool.weight"].shape))
        module.double()
        for name, p in shapes.items():
            p.data.copy_(torch.from_numpy(values[name]))
        targets = float64(keyed(f"{case}/targets", [c["pairs"]], 2, 2))
        inter, intra = module(torch.eye(3 * c["pairs"]).double(), targets, c["temperature"])
        (c["interPersonal"] * inter + c["intraPersonal"] * intra).backward()
        golden.add(f"{case}/loss", torch.stack([inter, intra]))
        for name, p in shapes.items():
            used = {"projection": c["interPersonal"], "change": c["intraPersonal"]}.get(name.split(".")[0], 1)
            if used > 0:
                golden.add(f"{case}/gradient/{name}", p.grad)
    golden.save()


def adam_run(c, case, dtype):
    """A linear layer under gradients that the test gives; the learning rate halves after `halveAtEpoch` steps, an epoch being one step."""
    module = nn.Linear(24, 16)
    for name, p in module.named_parameters():
        p.data.copy_(torch.from_numpy(keyed(f"{case}/linear.{name}", list(p.shape), 0.02)))
    module.to(dtype)
    started = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = torch.optim.Adam(module.parameters(), lr=c["learningRate"], weight_decay=c["weightDecay"])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [c["halveAtEpoch"]], 0.5)
    result = {}
    for step in range(1, c["steps"] + 1):
        x = torch.from_numpy(keyed(f"{case}/x{step}", [8, 24])).to(dtype)
        dy = torch.from_numpy(keyed(f"{case}/dy{step}", [8, 16])).to(dtype)
        optimizer.zero_grad()
        module(x).backward(dy)
        optimizer.step()
        schedule.step()
        for name, p in module.named_parameters():
            result[f"{step}/change/linear.{name}"] = (p - started[name]).detach().double()
    for name, p in module.named_parameters():
        result[f"firstMoment/linear.{name}"] = optimizer.state[p]["exp_avg"].double()
        result[f"secondMoment/linear.{name}"] = optimizer.state[p]["exp_avg_sq"].double()
    return result


def make_adam():
    golden = Golden("adam")
    for index, c in enumerate(cases["adam"]):
        case = f"adam.{index}"
        exact, single = adam_run(c, case, torch.float64), adam_run(c, case, torch.float32)
        for name, value in exact.items():
            golden.add(f"{case}/{name}", value)
        golden.metadata[case] = f"{max(distance(single[name], value) for name, value in exact.items()):.1e}"
    golden.save()


def comface_run(c, case, dtype, shifts=None):
    """Ten steps on fixed views, the learning rate halved on the way: losses before each update; statistics, changes of weights after the last.

    Before each step biases move as Relus does, in every precision by the `shifts` found in double: one relu that rounding flips changes gradients
    by 1e-3, Adam's division by their size spreads it, and ten steps later PyTorch in float32 is 1e-3 from PyTorch in double. An epsilon of 1e-4
    stops Adam from making a whole step of a gradient that is rounding alone; at its usual 1e-8 the case has a lower learning rate.
    """
    backbone = ResNet(c["net"], c["width"])
    module = ComFace(backbone, backbone.width, c["projection"]["hidden"], c["projection"]["out"])
    fill(module, case, residual=residual_norms(c["net"], c["residual"]))
    module.to(dtype).train()
    shape = [c["pairs"], 3, c["size"], c["size"]]
    person = keyed(f"{case}/person", shape, 1.5).astype(np.float64)
    views = [(person + keyed(f"{case}/view{v}", shape, 0.75)).astype(np.float32) for v in range(3)]
    images = torch.from_numpy(np.concatenate(views)).to(dtype)
    targets = torch.from_numpy(keyed(f"{case}/targets", [c["pairs"]], 2, 2)).to(dtype)
    optimizer = torch.optim.Adam(module.parameters(), lr=c["learningRate"], eps=c["epsilon"])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [c["halveAtEpoch"]], 0.5)
    started = {name: p.detach().clone() for name, p in module.named_parameters()}
    losses, moved = [], []
    for step in range(c["steps"]):
        moved.append(find_shifts(module, images) if shifts is None else {name: s[step] for name, s in shifts.items()})
        for name, p in module.named_parameters():
            if name in moved[-1]:
                p.data += moved[-1][name].to(dtype)
        optimizer.zero_grad()
        inter, intra = module(images, targets, c["temperature"])
        total = c["interPersonal"] * inter + c["intraPersonal"] * intra
        total.backward()
        optimizer.step()
        schedule.step()
        losses.append(torch.stack([inter, intra, total]).detach().double())
    result = {"losses": torch.stack(losses)}
    for name, b in module.named_buffers():
        if b.is_floating_point():
            result["statistic/" + name] = b.double()
    for name, p in module.named_parameters():
        result["change/" + name] = (p - started[name]).detach().double()
    assert shifts or module.margin > 2e-5, f"{case}: a difference of embeddings is {module.margin:.1e}; choose another key"
    return result, shifts or {name: torch.stack([step[name] for step in moved]) for name in moved[0]}


def find_shifts(module, images):
    """What to add to which bias so that no relu of the backbone and the projection is near its kink; leaves the module as it was."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    Relus.moving = True
    with torch.no_grad():
        h = module.backbone(images)[: len(images) // 3 * 2]
        Relus.apply(module.projection[0](h)[:, :, None, None], module.projection[0])
    Relus.moving = False
    shifts = {}
    for name, p in module.named_parameters():
        if not torch.equal(p, before[name]):
            shifts[name] = (p.detach() - before[name]).float()
    module.load_state_dict(before)
    return shifts


def make_steps():
    golden = Golden("steps")
    for c in cases["steps"]:
        case = c["key"]
        exact, shifts = comface_run(c, case, torch.float64)
        single, _ = comface_run(c, case, torch.float32, shifts)
        for name, value in shifts.items():
            golden.tensors[f"{case}/shift/{name.removeprefix('backbone.')}"] = value.numpy()
        for name, value in exact.items():
            golden.add(f"{case}/{name.replace('backbone.', '')}", value)
        losses = ((single["losses"] - exact["losses"]) / exact["losses"]).abs().max().item()
        statistics = max(distance(single[name], value) for name, value in exact.items() if name.startswith("statistic"))
        both = [torch.cat([run[name].flatten() for name in exact if name.startswith("change")]) for run in (single, exact)]
        golden.metadata[case] = f"losses {losses:.1e} statistic {statistics:.1e} change {distance(*both):.1e}"
        print(f"  {case}: losses {exact['losses'][0].numpy().round(3)} to {exact['losses'][-1].numpy().round(3)}")
    golden.save()


PLAIN = {
    "cropAreaMin": 1, "cropAreaMax": 1, "cropAspectMax": 1, "flipProbability": 0, "jitterProbability": 0, "brightness": 0, "contrast": 0,
    "saturation": 0, "hue": 0, "grayscaleProbability": 0, "mean": [0, 0, 0], "deviation": [1, 1, 1],
}  # fmt: skip


class Draws:
    """The draws of one view (native/augment.cc): one block of four words a decision; units of 24 bits in float32, as there."""

    def __init__(self, step, sample, view):
        self.at = lambda block: philox(1, PURPOSE_AUGMENT, step, sample, view << 4 | block)

    def unit(self, block, word):
        return np.float32(self.at(block)[word] >> 8) * np.float32(2.0**-24)

    def between(self, block, word, low, high):
        low, high = np.float32(low), np.float32(high)
        return low + (high - low) * self.unit(block, word)

    def below(self, block, word, n):
        return int(self.at(block)[word]) * n >> 32


def crop_of(draws, s, height, width):
    """torchvision RandomResizedCrop.get_params with our draws: top, left, height, width."""
    log = np.log(np.float32(s["cropAspectMax"]))
    for attempt in range(10):
        target = height * width * float(draws.between(attempt, 0, s["cropAreaMin"], s["cropAreaMax"]))
        aspect = math.exp(draws.between(attempt, 1, -log, log))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return draws.below(attempt, 2, height - h + 1), draws.below(attempt, 3, width - w + 1), h, w
    aspect = width / height
    w, h = width, height
    if aspect < 1 / s["cropAspectMax"]:
        h = round(w * s["cropAspectMax"])
    elif aspect > s["cropAspectMax"]:
        w = round(h * s["cropAspectMax"])
    return (height - h) // 2, (width - w) // 2, h, w


def view_of(picture, s, draws):
    """One view in double: torchvision's functions in SimCLR's order (Chen et al., 2020, appendix A)."""
    x = vision.resized_crop(picture, *crop_of(draws, s, *picture.shape[1:]), [s["size"]] * 2, antialias=True)
    if draws.unit(10, 0) < s["flipProbability"]:
        x = vision.hflip(x)
    if draws.unit(10, 1) < s["jitterProbability"]:
        order = [0, 1, 2, 3]
        for i in (3, 2, 1):  # Fisher-Yates
            j = draws.below(12, i, i + 1)
            order[i], order[j] = order[j], order[i]
        scale = lambda word, strength: float(draws.between(11, word, max(0, 1 - strength), 1 + strength))
        for operation in order:
            if operation == 0 and s["brightness"] > 0:
                x = vision.adjust_brightness(x, scale(0, s["brightness"]))
            if operation == 1 and s["contrast"] > 0:
                x = vision.adjust_contrast(x, scale(1, s["contrast"]))
            if operation == 2 and s["saturation"] > 0:
                x = vision.adjust_saturation(x, scale(2, s["saturation"]))
            if operation == 3 and s["hue"] > 0:
                x = vision.adjust_hue(x, float(draws.between(11, 3, -s["hue"], s["hue"])))
    if draws.unit(10, 2) < s["grayscaleProbability"]:
        x = vision.rgb_to_grayscale(x, 3)
    return vision.normalize(x, s["mean"], s["deviation"])


def draw_picture(path, width=48, height=40):
    """Slow waves of all hues, a gray and a black corner, some grain."""
    y, x = np.mgrid[:height, :width] / width
    waves = np.stack([np.sin(7 * x + 2 * y), np.sin(5 * y - 6 * x + 2), np.cos(9 * x * y + 3 * y)], axis=-1) * 0.5 + 0.5
    waves[:12, :12] = 0.5
    waves[-8:, -8:] = 0
    pixels = 255 * np.clip(waves + keyed("grain", [height, width, 3], 0.06), 0, 1)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95, subsampling=0)


def make_augment(pairs=3):
    """The decoded pixels are stored too, so a decoder that differs shows as itself. The picture is drawn once: encoders differ."""
    if not (here / "picture.jpg").exists():
        draw_picture(here / "picture.jpg")
    pixels = np.asarray(Image.open(here / "picture.jpg").convert("RGB"))
    picture = float64(pixels).permute(2, 0, 1) / 255
    golden = Golden("augment")
    golden.tensors["picture"] = pixels.astype(np.float32)
    golden.metadata["torchvision"] = torchvision.__version__
    for c in cases["augment"]:
        views = [view_of(picture, PLAIN | c, Draws(1, i, v)) for v in range(3) for i in range(1 if c["size"] > 16 else pairs)]
        golden.tensors[c["name"]] = torch.stack(views).numpy().astype(np.float32)
    golden.save()


def make_keys():
    """Shows that keyed.ts is the twin of keyed.py."""
    golden = Golden("keys")
    golden.tensors["numbers"] = keyed("numbers", [1001], 1.7, 0.3)
    golden.tensors["halves"] = np.stack([words("words", 1001) >> 16, words("words", 1001) & 0xFFFF]).astype(np.float32)
    golden.tensors["sketch"] = sketch("sketch", keyed("sketched", [5001])).astype(np.float32)
    golden.save()


def make_names():
    """Names and shapes of torchvision's ResNet-50, a line a tensor."""
    state = torchvision.models.resnet50().state_dict()
    lines = [f"  {json.dumps(name)}: {json.dumps([str(v.dtype).removeprefix('torch.'), list(v.shape)])}" for name, v in state.items()]
    (here / "resnet50.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def check(file):
    """Loads a file that ComFace wrote into torchvision's ResNet-50."""
    heads = ("projection.", "change.")
    state = {name: torch.from_numpy(value) for name, value in load_file(file).items() if not name.startswith(heads)}
    module = torchvision.models.resnet50()
    module.fc = nn.Identity()
    print(module.load_state_dict(state, strict=True), f"{len(state)} tensors")
    with torch.no_grad():
        assert module.eval()(torch.zeros(1, 3, 64, 64)).isfinite().all()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2])
    else:
        makers = [make_keys, make_names, make_blocks, make_nets, make_losses, make_adam, make_steps, make_augment]
        for maker in makers:
            if len(sys.argv) == 1 or maker.__name__[5:] in sys.argv[1:]:
                maker()
