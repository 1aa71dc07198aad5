"""Numbers that Python and TypeScript make alike (keyed.ts is the twin), so that goldens store results and no inputs; and the sketch of a large
tensor: its norm and 16 random projections, whose root mean square difference estimates the L2 distance without bias."""

import math

import numpy as np

PURPOSE_AUGMENT, PURPOSE_TEST = 2, 7
WHOLE = 4096  # entries up to which a tensor is stored whole
PROJECTIONS = 16


def philox(seed, purpose, a, b, c):
    """Philox4x32-10 (Salmon et al., SC 2011) of the counter (a, b, c, purpose); a, b, c: numbers or arrays. Returns words, ... x 4."""
    x = [np.asarray(word, dtype=np.uint64) for word in np.broadcast_arrays(a, b, c, purpose)]
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(p1 >> shift) ^ x[1] ^ np.uint64(k0), p1 & low, (p0 >> shift) ^ x[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(x, axis=-1).astype(np.uint32)


def hash_of(text):
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def words(text, count):
    """The first `count` 32-bit words under the key `text`."""
    return philox(hash_of(text), PURPOSE_TEST, np.arange(-(-count // 4)), 0, 0).reshape(-1)[:count]


def keyed(text, shape, spread=1.0, center=0.0):
    """Uniform in [center - spread, center + spread), rounded to float32 once at the end."""
    units = (words(text, math.prod(shape)) >> 8) * 2.0**-24
    return (center + spread * (2 * units - 1)).astype(np.float32).reshape(shape)


def sketch(text, value):
    """Norm and projections on signs: bit k of the 16 of entry i is the sign of i in projection k."""
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    bits = words(text + "#", -(-flat.size // 2)).view("<u2")[: flat.size]
    sums = [flat.sum() - 2 * flat[(bits >> k & 1) == 1].sum() for k in range(PROJECTIONS)]
    return np.array([math.sqrt((flat**2).sum()), *sums])


def stored(text, value):
    """(name, array) as a golden holds a tensor: whole if small."""
    value = np.asarray(value)
    return (text, value) if value.size <= WHOLE else (text + "#", sketch(text, value))
