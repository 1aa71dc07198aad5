// The one error class of the package. Codes are part of the API; their order is shared with native/core.h.

/** What went wrong, as a stable word to branch on. */
export type ErrorCode =
  | 'INVALID_CONFIG'
  | 'INVALID_INPUT'
  | 'CORRUPT_FILE'
  | 'DEVICE_UNAVAILABLE'
  | 'DEVICE_FAILED'
  | 'OUT_OF_MEMORY'
  | 'NOT_FINITE'
  | 'BUSY'
  | 'DISPOSED'
  | 'IO';

/** Every error that comface throws or rejects with (an aborted call rejects with `signal.reason` instead). */
export class ComFaceError extends Error {
  override readonly name = 'ComFaceError';
  readonly code: ErrorCode;
  /** A thing to do about it. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** Expected <rule> for `<name>` but received <value>. */
export function invalid(name: string, rule: string, value: unknown, hint?: string): ComFaceError {
  return new ComFaceError(
    'INVALID_INPUT',
    `Expected ${rule} for \`${name}\` but received ${show(value)}`,
    hint === undefined ? {} : { hint },
  );
}

/** A value as it may stand in a message: short, on one line. */
export function show(value: unknown): string {
  const text =
    typeof value === 'string' ? JSON.stringify(value) : typeof value === 'object' && value !== null ? describe(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function describe(value: object): string {
  try {
    return JSON.stringify(value) ?? Object.prototype.toString.call(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}
