// The cases: every scenario of the testbed, an outline once for each of its examples.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { TESTBED, load } from './packages.mjs';

const { AstBuilder, GherkinClassicTokenMatcher, Parser, compile } = await load('@cucumber/gherkin');

/** Features that are about a provider and not about what it speaks to, and why they are not run. */
const NOT_RUN = {
  'gherkin/config.feature': 'the options of a provider, and the variables that set them',
  'gherkin/connection.feature': 'how a provider reconnects, over TLS and over a socket too',
};

/** The scenarios of a file, each `{ id, name, steps: [{ text, rows }] }`; the id is its line and name. */
function scenarios(path) {
  let count = 0;
  const newId = () => `${count++}`;
  const text = readFileSync(join(TESTBED, path), 'utf8');
  const document = new Parser(new AstBuilder(newId), new GherkinClassicTokenMatcher()).parse(text);
  return compile(document, path, newId).map(({ name, location, steps }) => ({
    id: `${location.line} ${name}`,
    steps: steps.map((step) => ({
      text: step.text,
      rows: step.argument?.dataTable?.rows.map(({ cells }) => cells.map(({ value }) => value)),
    })),
  }));
}

const features = ['evaluator/gherkin', 'gherkin'].flatMap((folder) => readdirSync(join(TESTBED, folder))
  .filter((name) => name.endsWith('.feature')).sort()
  .map((name) => {
    const path = `${folder}/${name}`;
    const suite = folder === 'gherkin' ? 'provider' : 'evaluator';
    return { path, suite, scenarios: scenarios(path), notRun: NOT_RUN[path] };
  }));

/** What is run. */
export const FEATURES = features.filter(({ notRun }) => !notRun);

/** What is not. */
export const LEFT_OUT = features.filter(({ notRun }) => notRun);
