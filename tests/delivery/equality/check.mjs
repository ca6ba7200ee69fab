// Every case of a file in the core of flagd's providers for JavaScript, compiled and interpreted.
// Definitions have to satisfy the schema that it carries. It hashes as the older generation does.
//
//     node check.mjs <cases> [<directory with node_modules>]

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

const [path, modules = '.'] = process.argv.slice(2);
const { FlagdCore, MemoryStorage } = createRequire(resolve(modules, 'check.mjs'))('@openfeature/flagd-core');

const FAILURES_SHOWN = 5;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

// Its hash reads UTF-16, where everybody else reads UTF-8.
const isAscii = (text) => /^[\x00-\x7f]*$/.test(text);
const hashesBeyondAscii = (targeting, context) =>
  targeting.includes('"fractional"') && !isAscii(JSON.stringify(context));

let passed = 0;
let failed = 0;
let skipped = 0;

function fail(mode, line, detail) {
  failed += 1;
  if (failed <= FAILURES_SHOWN) {
    console.error(`${mode}: seed ${line.seed}: ${JSON.stringify(detail)}\n${JSON.stringify(line.config)}`);
  }
}

for (const text of readFileSync(path, 'utf8').split('\n')) {
  if (text === '') continue;
  const line = JSON.parse(text);
  const flag = line.config.flags[line.key];
  const targeting = JSON.stringify(flag.targeting ?? {});
  for (const mode of ['compiled', 'interpreted']) {
    const options = { disableDynamicCodeGeneration: mode === 'interpreted' };
    const storage = new MemoryStorage(quiet, options);
    try {
      storage.setConfigurations(JSON.stringify(line.config), true);
    } catch (error) {
      fail(mode, line, error.message);
      continue;
    }
    const core = new FlagdCore(storage, quiet, options);
    for (const { context, v2, reason2 } of line.cases) {
      if (hashesBeyondAscii(targeting, context)) {
        skipped += 1;
        continue;
      }
      const value = flag.variants[v2];
      const told = typeof value === 'boolean'
        ? core.resolveBooleanEvaluation(line.key, !value, context, quiet)
        : core.resolveObjectEvaluation(line.key, {}, context, quiet);
      const reason = flag.targeting ? reason2 || told.reason : 'STATIC';
      if (told.variant === v2 && told.reason === reason && isDeepStrictEqual(told.value, value)) {
        passed += 1;
      } else {
        fail(mode, line, { context, expected: v2, told });
      }
    }
  }
}

console.log(`javascript: ${passed} passed, ${failed} failed (${skipped} skipped: a share and text beyond ASCII)`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
