/**
 * The code that validates rendered documents, made by ajv from schemas/. It answers yes or no: every start reads it, and
 * the descriptions of errors would be half of it. compiler/output/document-errors.ts makes them, with ajv itself.
 */
import Ajv from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';

/**
 * @param {Record<string, object>} schemas by the name that the validator is exported under
 * @returns an ES module of functions `(document) => boolean`
 */
export function validatorsModule(schemas) {
  const ajv = new Ajv({
    messages: false,
    strict: true,
    allowUnionTypes: true,
    inlineRefs: false,
    code: { source: true, esm: true, optimize: 2 },
  });
  for (const [name, schema] of Object.entries(schemas)) ajv.addSchema(schema, name);
  const names = Object.fromEntries(Object.keys(schemas).map((name) => [name, name]));
  return withoutUnusedSchemas(withoutErrors(standaloneCode(ajv, names)));
}

/** A string in code, and an object without and with objects in it. */
const STRING = String.raw`"(?:[^"\\]|\\.)*"`;
const FLAT = `(?:[^{}"]|${STRING})*`;
const OBJECT = String.raw`\{(?:[^{}"]|${STRING}|\{${FLAT}\})*\}`;
const VALIDATE = String.raw`(?:validate|wrapper)\d+(?:\.validate)?`;

/** The statements and arguments of ajv that describe errors, and what remains of them. */
const ABOUT_ERRORS = [
  // A failure of the whole function: `return false` follows.
  [String.raw`validate\d+\.errors = (?:\[${OBJECT}\]|vErrors);`, ''],
  // A failure that another branch may make good: only their number decides.
  [
    String.raw`const err\d+ = ${OBJECT};if\(vErrors === null\)\{vErrors = \[err\d+\];\}else \{vErrors\.push\(err\d+\);\}`,
    '',
  ],
  [
    String.raw`vErrors = vErrors === null \? ${VALIDATE}\.errors : vErrors\.concat\(${VALIDATE}\.errors\);errors = vErrors\.length;`,
    'errors++;',
  ],
  [
    String.raw`if\(vErrors !== null\)\{if\(_errs\d+\)\{vErrors\.length = _errs\d+;\}else \{vErrors = null;\}\}`,
    '',
  ],
  ['let vErrors = null;', ''],
  [String.raw` && \(missing\d+ = ${STRING}\)`, ''],
  [String.raw`let missing\d+;`, ''],
  // The path to a value, as parameter and as argument.
  [String.raw`, \{instancePath="", parentData, parentDataProperty, rootData=data\}=\{\}(?=\))`, ''],
  [String.raw`(?<=${VALIDATE}\([\w.[\]"/~-]+), \{instancePath${FLAT}rootData\}(?=\))`, ''],
].map(([pattern, to]) => [new RegExp(pattern, 'g'), to]);

/** @throws {Error} if this version of ajv describes errors in another form too */
function withoutErrors(code) {
  const stripped = ABOUT_ERRORS.reduce((rest, [pattern, to]) => rest.replace(pattern, to), code);
  const left = /.{0,80}\b(?:vErrors|instancePath|missing\d+|\w+\.errors|err\d+)\b.{0,80}/.exec(stripped);
  if (left) throw new Error(`compiler/validators.mjs does not know this form of an error: ${left[0]}`);
  return stripped;
}

/**
 * ajv writes whole schemas into its code, of which the validators read some values and the names of properties.
 * Creating the rest at each start would take a twentieth of a render.
 */
function withoutUnusedSchemas(code) {
  return code.replace(/\bconst (schema\d+) = (\{.*?\});(?=const |function |export )/g, (_, name, json) => {
    const member = /\.(\w+)|\[("(?:[^"\\]|\\.)*")\]/;
    const uses = [...code.matchAll(new RegExp(`\\b${name}\\b((?:${member.source})*)`, 'g'))].slice(1);
    const paths = uses.map(([, path]) =>
      [...path.matchAll(new RegExp(member, 'g'))].map(([, plain, quoted]) => plain ?? JSON.parse(quoted)),
    );
    return `const ${name} = ${JSON.stringify(partsOf(JSON.parse(json), paths))};`;
  });
}

/** The parts of a schema at the paths; where a path ends at properties, only their names. */
function partsOf(schema, paths) {
  const parts = {};
  for (const path of paths.sort((one, other) => one.length - other.length)) {
    let [from, to] = [schema, parts];
    for (const [index, member] of path.entries()) {
      from = from[member];
      const isEnd = index === path.length - 1;
      if (!isEnd) to = to[member] ||= {};
      else if (/^(?:patternP|p)roperties$/.test(member)) to[member] = namesOf(from);
      else to[member] = from;
    }
  }
  return parts;
}

const namesOf = (properties) => Object.fromEntries(Object.keys(properties).map((name) => [name, 0]));
