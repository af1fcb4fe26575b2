/** Why a deployment stopped. */

export type FailureKind =
  /** Nothing was touched: tools, login, files or settings are not as they must be. */
  | 'not-begun'
  /** The settings have errors, which were already printed. */
  | 'settings'
  /** A program or Azure reported an error. */
  | 'failed'
  /** The user said no. */
  | 'declined'
  /** Ctrl-C, or a signal of another process. */
  | 'interrupted';

/** An expected end of a deployment. Its texts are shown to the user, so they contain no secret. */
export class DeployFailure extends Error {
  readonly kind: FailureKind;
  /** What to do, in sentences. Absent: running the command again is enough. */
  readonly advice: string | undefined;

  constructor(kind: FailureKind, message: string, advice?: string) {
    super(message);
    this.kind = kind;
    this.advice = advice;
  }
}
