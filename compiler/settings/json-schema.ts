import * as z from 'zod/mini';
import type { Declaration } from './declaration.ts';
import { indexedGroups, plainSettings } from './declarations/index.ts';
import { defaultText } from './reference.ts';

/** The JSON Schema of one variable. */
function property(declaration: Declaration): Record<string, unknown> {
  const { $schema: _, ...schema } = z.toJSONSchema(declaration.type.schema, {
    io: 'input',
    target: 'draft-7',
    // Formats are removed: patterns are equivalent, and every validator supports them.
    override: ({ jsonSchema }) => {
      delete jsonSchema.format;
    },
  });
  return {
    ...schema,
    description: `${declaration.description} Expected ${declaration.type.expected}. Default: ${defaultText(declaration)}.`,
    ...(declaration.sensitive ? { writeOnly: true } : { examples: [declaration.example] }),
    ...(declaration.replacedBy === undefined ? {} : { deprecated: true }),
  };
}

/**
 * The JSON Schema (draft-07) of the settings as a map of variables to text, as in an env file. It describes ranges,
 * lists and dependencies between settings only in words; `genai-gateway check` checks them.
 */
export function settingsJsonSchema(): object {
  const properties: Record<string, unknown> = {};
  const patternProperties: Record<string, unknown> = {};
  const withFile = (
    name: string,
    declaration: Declaration,
    into: Record<string, unknown>,
    fileName: string,
  ) => {
    into[name] = property(declaration);
    if (declaration.sensitive && !declaration.readAtRunTime) {
      into[fileName] = {
        type: 'string',
        description: 'Absolute path of a file that contains the value.',
      };
    }
  };
  for (const [name, declaration] of Object.entries(plainSettings)) {
    withFile(name, declaration as Declaration, properties, `${name}_FILE`);
  }
  for (const { prefix, fields } of Object.values(indexedGroups)) {
    for (const [field, declaration] of Object.entries(fields)) {
      const indexed = `^${prefix}${field}_(?:0|[1-9]\\d{0,3})`;
      withFile(`${indexed}$`, declaration as Declaration, patternProperties, `${indexed}_FILE$`);
    }
  }
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Settings of genai-gateway',
    description: 'Variables of the environment or of an env file. Generated from their declarations.',
    type: 'object',
    properties,
    patternProperties,
    additionalProperties: { type: 'string' },
  };
}
