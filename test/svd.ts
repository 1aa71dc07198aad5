// Eigen-CAM's twin: the whole singular value decomposition by one-sided Jacobi rotations, in double; the steps after it written out once more.

/** @returns Its map, size x size. */
export function mapBySvd(
  activations: ArrayLike<number>,
  { channels, height, width }: { channels: number; height: number; width: number },
  size: number,
): number[] {
  const positions = height * width;
  // Columns are positions: rotating them until all are orthogonal leaves U'M, whose longest row is sigma v'.
  const columns = Array.from({ length: positions }, (_, p) => Array.from({ length: channels }, (_, c) => activations[c * positions + p]!));
  for (let c = 0; c < channels; c++) {
    const mean = columns.reduce((sum, column) => sum + column[c]!, 0) / positions;
    for (const column of columns) column[c]! -= mean;
  }
  const rotated = columns.map((column) => [...column]);
  orthogonalize(rotated);
  const lengths = rotated.map((row) => Math.sqrt(dot(row, row)));
  const longest = lengths.indexOf(Math.max(...lengths));
  const right = rotated[longest]!.map((value) => value / (lengths[longest]! || 1));
  let projection = columns.map((column) => dot(column, right));
  if (Math.abs(Math.min(...projection)) > Math.abs(Math.max(...projection))) projection = projection.map((value) => -value);
  const small = scaled(projection.map((value) => (value > 0 ? value : 0)));
  const large: number[] = [];
  const sample = (y: number, x: number) => small[Math.min(height - 1, Math.max(0, y)) * width + Math.min(width - 1, Math.max(0, x))]!;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const [y, x] = [((row + 0.5) / size) * height - 0.5, ((column + 0.5) / size) * width - 0.5];
      const [top, left] = [Math.floor(y), Math.floor(x)];
      let value = 0;
      for (const [dy, wy] of [
        [0, 1 - (y - top)],
        [1, y - top],
      ] as const)
        for (const [dx, wx] of [
          [0, 1 - (x - left)],
          [1, x - left],
        ] as const)
          value += wy * wx * sample(top + dy, left + dx);
      large.push(value);
    }
  }
  return scaled(large);
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

function scaled(values: readonly number[]): number[] {
  const least = Math.min(...values);
  const from0 = values.map((value) => value - least);
  const most = Math.max(...from0);
  return from0.map((value) => value / (1e-7 + most));
}

/** Hestenes' rotations: every two rows, until none leans on another. */
function orthogonalize(rows: number[][]): void {
  for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
    turned = false;
    for (let i = 0; i < rows.length; i++) {
      for (let j = i + 1; j < rows.length; j++) {
        const [a, b] = [rows[i]!, rows[j]!];
        const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
        if (Math.abs(ab) <= 1e-15 * Math.sqrt(aa * bb) || ab === 0) continue;
        turned = true;
        const zeta = (bb - aa) / (2 * ab);
        const tangent = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cosine = 1 / Math.hypot(1, tangent);
        for (let k = 0; k < a.length; k++) [a[k], b[k]] = [cosine * (a[k]! - tangent * b[k]!), cosine * (b[k]! + tangent * a[k]!)];
      }
    }
  }
}
