/** Conditions that settings of several files share. */
import type { Condition } from '../declaration.ts';
import type { PlainName, PlainValues } from './index.ts';

/** The boolean settings. */
type Switch = { [Name in PlainName]: PlainValues[Name] extends boolean ? Name : never }[PlainName];

/** The condition that a boolean setting is true. */
export const switchedOn = (name: Switch): Condition => ({
  when: ({ values }) => values[name],
  words: `${name}=true`,
  switches: [name],
});

/** The condition that a setting has a value. */
export const hasValue = (name: PlainName): Condition => ({
  when: ({ values }) => values[name] !== undefined,
  words: name,
  switches: [name],
});

export const LANES: Condition = switchedOn('ENABLE_AI_RATE_LIMIT');

export const RECORDS: Condition = hasValue('APIM_GATEWAY_LOGS_INGEST_URI');
