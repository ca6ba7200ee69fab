// The pages that show commands, executed.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { follow } from './follow.mjs';
import { edited, parse } from './page.mjs';
import { Terminals } from './terminals.mjs';

const ROOT = join(import.meta.dirname, '..', '..');

/** Pages that are executed. Without `showsAll`, a block after which nothing is shown may print what it likes. */
const PAGES = [
  { file: 'README.md', sections: ['A first release in five minutes', 'Your application follows'] },
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
      await follow(page, { file, terminals, showsAll, isUpdate, edits });
    } finally {
      if (edits.length > 0) await writeFile(join(ROOT, file), edited(page, edits));
    }
    t.diagnostic(`${page.steps.length} steps, ${edits.length} written anew`);
  });
}
