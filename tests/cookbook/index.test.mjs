// Whoever reads the index finds every page. That its links lead somewhere is tried by tests/tidy.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

const DOCS = join(import.meta.dirname, '..', '..', 'docs');

test('the index of docs leads to every page there is', async () => {
  const text = await readFile(join(DOCS, 'README.md'), 'utf8');
  const linked = new Set([...text.matchAll(/\]\(([^)#]+)/g)].map((found) => found[1]));
  const pages = (await readdir(DOCS, { recursive: true })).filter((name) => name.endsWith('.md') && name !== 'README.md');
  assert.ok(pages.length > 15, 'the pages were not found');
  assert.deepEqual(pages.filter((page) => !linked.has(page)).sort(), [], 'docs/README.md leads nowhere to these');
});
