"""Pictures of the public PyTorch implementations, as bench/generator.mjs makes them: for each line on the input one round, answered with its times.

python3 bench/peers/generators.py fp32|fp16 DESIGN (JSON, as bench/generator.mjs has it)
COMFACE_STYLEGAN3 names a folder with NVlabs/stylegan3, COMFACE_INTERFACEGAN one with genforce/interfacegan. fp16: on CUDA, in the layers that do it
by default there. CUDA extensions of stylegan3 are built where its own loader can build them; what it runs is in the first line.
"""

import json
import os
import pathlib
import re
import sys
import time

import torch

root = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "test" / "golden"))
import references  # noqa: E402


def folder(variable, repository):
    path = os.environ.get(variable)
    if not path:
        sys.exit(f"Error: {variable} names no folder with {repository}")
    return path


def memory(line):
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(rf"{line}:\s*(\d+)", file.read())[1])


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def stylegan1(size, most):
    genforce = references.genforce(folder("COMFACE_INTERFACEGAN", "genforce/interfacegan"))
    widths = [min(most, 2**14 // max(edge, 4)) for edge in (2**i for i in range(1, size.bit_length()))]
    genforce._RESOLUTIONS_TO_CHANNELS[size] = widths
    return genforce.StyleGANGeneratorModel(resolution=size).synthesis


def stylegan3(which, size, most):
    reference = references.stylegan3(folder("COMFACE_STYLEGAN3", "NVlabs/stylegan3"))
    radial = dict(conv_kernel=1, use_radial_filters=True, channel_base=65536) if which == "stylegan3-r" else {}
    return reference.networks.SynthesisNetwork(512, size, 3, channel_max=most * (2 if radial else 1), **radial)


def channel_pairs(net):
    """Of all convolutions that make the picture: inputs times outputs."""
    convolutions = {name: value for name, value in net.named_parameters() if value.ndim == 4 and "first_layer" not in name}
    outputs = sorted((name for name in convolutions if name.startswith("output")), key=lambda name: int(re.search(r"\d+", name)[0]))
    for name in outputs[:-1]:  # of the lower resolutions
        del convolutions[name]
    area = lambda shape: 9 if (3, 3) in (tuple(shape[:2]), tuple(shape[2:])) else 1
    return sum(value.numel() // area(value.shape) for value in convolutions.values())


def main():
    way, design = sys.argv[1], json.loads(sys.argv[2])
    which, size, most, batch, rounds = (design[name] for name in ("which", "size", "most", "batch", "rounds"))
    device = design["device"]
    torch.set_num_threads(design["threads"])
    torch.backends.cudnn.benchmark = True
    net = stylegan1(size, most) if which == "stylegan1" else stylegan3(which, size, most)
    net = net.to(device).requires_grad_(False).eval()
    layers = 2 * (size.bit_length() - 1) - 2 if which == "stylegan1" else net.num_ws
    ws = torch.randn(batch, layers, 512, device=device)
    how = {} if which == "stylegan1" else {"noise_mode": "const", "force_fp32": way == "fp32"}

    def picture():
        return net(ws, **how).cpu()

    with torch.inference_mode():
        first = picture()
        if not first.isfinite().all():
            sys.exit("Error: its picture is not finite")
        about = f"PyTorch {torch.__version__}, {way}"
        print(json.dumps({"items": rounds * batch, "shape": list(first.shape), "pairs": channel_pairs(net), "how": about}), flush=True)
        for _ in sys.stdin:
            forget_peak()
            start, before = time.perf_counter(), time.process_time()
            for _ in range(rounds):
                picture()
            cpu_ms, wall_ms = 1e3 * (time.process_time() - before), 1e3 * (time.perf_counter() - start)
            print(json.dumps({"cpuMs": cpu_ms, "wallMs": wall_ms, "peakRssBytes": memory("VmHWM")}), flush=True)


main()
