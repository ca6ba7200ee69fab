// The pages that show commands, executed.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { difference, matches, rewrite } from './notation.mjs';
import { edited, parse } from './page.mjs';
import { Terminals } from './terminals.mjs';

const ROOT = join(import.meta.dirname, '..', '..');

/** Pages that are executed. Without `showsAll`, a block after which nothing is shown may print what it likes. */
const PAGES = [
  { file: 'docs/tutorial.md', showsAll: true },
  { file: 'docs/grpcurl.md', showsAll: true },
];

/** Longer than a page takes, on a busy machine. */
const PATIENCE = 300_000;

const wanted = (process.env.COOKBOOK_PAGES ?? '').split(' ').filter(Boolean);
const isUpdate = process.env.UPDATE === '1';

for (const { file, sections, showsAll } of PAGES) {
  if (wanted.length > 0 && !wanted.some((part) => file.includes(part))) continue;
  test(`${file} does what it says`, { timeout: PATIENCE }, async (t) => {
    const page = parse(await readFile(join(ROOT, file), 'utf8'), sections);
    const directory = await mkdtemp(join(tmpdir(), 'phasegate-cookbook-'));
    const terminals = await Terminals.open(directory);
    t.after(async () => {
      await terminals.close();
      await rm(directory, { recursive: true, force: true });
    });
    const edits = [];
    try {
      for (const step of page.steps) {
        const edit = await perform(step, { file, terminals, showsAll });
        if (edit) edits.push(edit);
      }
      assert.deepEqual(terminals.leftOver(), [], `${file} does not show all that its terminals print`);
    } finally {
      if (edits.length > 0) await writeFile(join(ROOT, file), edited(page, edits));
    }
    t.diagnostic(`${page.steps.length} steps, ${edits.length} written anew`);
  });
}

/** Performs a step. Fails if it does something else than is shown; in an update gives the edit of the page instead. */
async function perform(step, { file, terminals, showsAll }) {
  if (step.kind === 'run' && step.terminal) {
    await terminals.start(step.terminal, step.command);
    return undefined;
  }
  if (step.kind === 'shows') {
    const printed = await terminals.shows(step.terminal, step.shown);
    if (!printed) return undefined;
    assert.fail(`${file}:${step.from}: the terminal ${step.terminal} prints something else\n${difference(step.shown, printed)}`);
  }
  const { exit, printed } = await terminals.run(step.command);
  const where = `${file}:${step.from}`;
  assert.equal(exit, step.exit, `${where}: it ends with ${exit}\n${step.command}\n${printed.join('\n')}`);
  if (!step.shown && !showsAll) return undefined;
  const shown = step.shown?.lines ?? [];
  if (matches(shown, printed)) return undefined;
  if (!isUpdate) {
    assert.fail(`${where}: the output of\n\n${step.command}\n\nis not what the page shows (-) but (+)\n\n${difference(shown, printed)}`);
  }
  const lines = rewrite(shown, printed);
  if (step.shown) return { from: step.shown.from, to: step.shown.to, lines };
  const language = printed[0] === '{' ? 'json' : 'text';
  return { from: step.to + 1, to: step.to + 1, lines: ['', `\`\`\`${language}`, ...lines, '```'] };
}
