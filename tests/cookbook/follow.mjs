// Follows a page step by step, as a reader would.
import assert from 'node:assert/strict';
import { difference, matches, rewrite } from './notation.mjs';

/**
 * Does what the page says, in these terminals. Fails where something else happens than is shown; with `isUpdate` a
 * block that shows something else than was printed is put into `edits` instead. Without `showsAll` a block after which
 * nothing is shown may print what it likes. `file` is how the page is called.
 */
export async function follow(page, { file, terminals, showsAll, isUpdate, edits = [] }) {
  for (const step of page.steps) {
    const where = `${file}:${step.from}`;
    if (step.kind === 'shows') await shows(step, { where, terminals });
    else if (step.terminal) await terminals.start(step.terminal, step.command);
    else await run(step, { where, terminals, showsAll, isUpdate, edits });
  }
  assert.deepEqual(await terminals.leftOver(), [], `${file} does not show all that its terminals print`);
}

async function shows({ terminal, shown }, { where, terminals }) {
  const printed = await terminals.shows(terminal, shown);
  if (printed) {
    assert.fail(`${where}: what the terminal ${terminal} prints is not what the page shows (-) but (+)\n\n${difference(shown, printed)}`);
  }
}

async function run(step, { where, terminals, showsAll, isUpdate, edits }) {
  const { exit, printed } = await terminals.run(step.command);
  assert.equal(exit, step.exit, `${where}: it ends with ${exit}\n\n${step.command}\n\n${printed.join('\n')}`);
  if (!step.shown && !showsAll) return;
  const shown = step.shown?.lines ?? [];
  if (matches(shown, printed)) return;
  if (!isUpdate) {
    assert.fail(`${where}: the output of\n\n${step.command}\n\nis not what the page shows (-) but (+)\n\n${difference(shown, printed)}`);
  }
  const lines = rewrite(shown, printed);
  if (step.shown) {
    edits.push({ from: step.shown.from, to: step.shown.to, lines });
  } else {
    const language = printed[0] === '{' ? 'json' : 'text';
    edits.push({ from: step.to + 1, to: step.to + 1, lines: ['', `\`\`\`${language}`, ...lines, '```'] });
  }
}
