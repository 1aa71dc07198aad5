// A list of dialysis pictures: a data point is a patient, a day of dialysis and a phase (before or after it), with one weight and many pictures.
import { invalid, show } from '../errors.js';
import type { Collector } from './collector.js';
import { Columns, type Csv } from './csv.js';
import { type Described, described, floatText, numberOf } from './described.js';

const kNeeded = ['patient_id', 'session_id', 'phase', 'weight_kg', 'image_path'];
const kAttribute = 'weight';
const kMostKilograms = 500;
const kPhases = ['pre', 'post'];

export const isWeight = (names: readonly string[]): boolean =>
  ['patient_id', 'weight_kg', 'image_path'].every((name) => names.includes(name));

/** Of several in one list. */
export interface WeightChoice {
  site: string | undefined;
  dataset: string | undefined;
}

interface Line {
  path: string;
  line: number;
  /** Or why it cannot be used. */
  picture: Described | string;
}

/**
 * Lists the pictures of a file with the columns patient_id, session_id, phase, weight_kg and image_path and, maybe, dataset, site, capture_time,
 * frame_index and landmarks.
 *
 * @throws ComFaceError INVALID_INPUT for several sites or data sets of which none is chosen, CORRUPT_FILE, IO.
 */
export async function listWeight(csv: Csv, choice: WeightChoice, collector: Collector): Promise<void> {
  const columns = new Columns(csv, kNeeded);
  const chooser = new Chooser(choice);
  const lines: Line[] = [];
  for await (const { cells, line } of csv.rows) {
    if (!chooser.takes(columns, cells)) continue;
    lines.push({ path: columns.cell(cells, 'image_path') || `line ${line}`, line, picture: describe(columns, cells) });
  }
  chooser.check(csv.file);
  if (chooser.others > 0) {
    collector.leaveOut(chooser.others);
    collector.note(`Left out, as of another ${Object.keys(chooser.chosen).join(' or ')}: ${chooser.others}.`);
  }
  const faults = unsteady(lines);
  for (const { path, line, picture } of lines) {
    const fault = typeof picture === 'string' ? picture : faults.get(pointOf(picture));
    collector.offer(path, fault === undefined ? picture : `line ${line}: ${fault}`);
  }
  for (const fault of faults.values()) collector.note(`Not packed: ${fault}.`);
}

/** Patients of two hospitals may have the same numbers: a set is of one. */
class Chooser {
  /** What was asked for. */
  readonly chosen: { site?: string; dataset?: string } = {};
  /** Lines of others. */
  others = 0;
  readonly #found = { site: new Set<string>(), dataset: new Set<string>() };
  /** Of the lines that were asked for. */
  readonly #taken = { site: new Set<string>(), dataset: new Set<string>() };

  constructor({ site, dataset }: WeightChoice) {
    if (site !== undefined) this.chosen.site = site;
    if (dataset !== undefined) this.chosen.dataset = dataset;
  }

  takes(columns: Columns, cells: readonly string[]): boolean {
    const names = ['site', 'dataset'] as const;
    for (const name of names) this.#found[name].add(columns.cell(cells, name));
    const isTaken = names.every((name) => (this.chosen[name] ?? columns.cell(cells, name)) === columns.cell(cells, name));
    if (!isTaken) this.others++;
    else for (const name of names) this.#taken[name].add(columns.cell(cells, name));
    return isTaken;
  }

  check(file: string): void {
    for (const name of ['site', 'dataset'] as const) {
      const found = [...this.#found[name]].sort();
      const taken = [...this.#taken[name]].sort();
      const shown = found.map((each) => show(each)).join(', ');
      const chosen = this.chosen[name];
      if (chosen === undefined && taken.length > 1)
        throw invalid(
          name,
          `one of ${taken.map((each) => show(each)).join(', ')}, which ${file} has`,
          undefined,
          'Choose one: patients of two may have the same numbers.',
        );
      if (chosen !== undefined && !this.#found[name].has(chosen))
        throw invalid(name, `one of ${shown || 'those'} in ${file}`, chosen, 'Choose one of these, or leave it out.');
    }
  }
}

function describe(columns: Columns, cells: readonly string[]): Described | string {
  const fault = columns.faultOf(cells, 'image_path');
  if (fault !== undefined) return fault;
  const [subject, session, phaseText, text] = ['patient_id', 'session_id', 'phase', 'weight_kg'].map((name) =>
    columns.cell(cells, name),
  ) as [string, string, string, string];
  if (subject === '') return 'it has no patient_id';
  if (session === '') return 'it has no session_id';
  const phase = phaseText.toLowerCase();
  if (!kPhases.includes(phase)) return `expected pre or post for phase but found ${show(phaseText)}`;
  const kilograms = numberOf(text);
  if (kilograms === undefined || kilograms < 1 || kilograms > kMostKilograms)
    return `expected 1 to ${kMostKilograms} kg for weight_kg but found ${show(text)}`;
  const landmarks = columns.landmarks(cells);
  return typeof landmarks === 'string' ? landmarks : described(subject, kAttribute, kilograms, { landmarks, session, phase });
}

const pointOf = ({ subject, session, phase }: Described): string => JSON.stringify([subject, session, phase]);

/** Data points with more than one weight, and what to say of each. */
function unsteady(lines: readonly Line[]): Map<string, string> {
  const weights = new Map<string, number>();
  const faults = new Map<string, string>();
  for (const { picture } of lines) {
    if (typeof picture === 'string') continue;
    const point = pointOf(picture);
    const { subject, session, phase, alpha } = picture;
    const weight = weights.get(point) ?? alpha;
    weights.set(point, weight);
    if (weight !== alpha && !faults.has(point))
      faults.set(
        point,
        `patient ${show(subject)}, session ${show(session)}, ${phase} has two weights, ${floatText(weight)} and ${floatText(alpha)} kg`,
      );
  }
  return faults;
}
