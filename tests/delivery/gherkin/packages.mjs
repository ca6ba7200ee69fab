// What comes out of registries, from where `run` has put it.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

export const TESTBED = process.env.GHERKIN_TESTBED;
export const TOOLS = process.env.GHERKIN_TOOLS;

const { resolve } = createRequire(join(TOOLS, 'javascript', 'from.mjs'));

/** A package of npm. */
export async function load(name) {
  const module = await import(pathToFileURL(resolve(name)));
  return module.default ?? module;
}
