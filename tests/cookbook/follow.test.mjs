// A page that does not tell the truth is noticed.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { follow } from './follow.mjs';
import { edited, parse } from './page.mjs';
import { Terminals } from './terminals.mjs';

/** Follows a page that is written here with ~~~ for fences; gives the page as an update leaves it. */
async function followed(text, { showsAll = true, isUpdate = false } = {}) {
  const page = parse(text.replaceAll('~~~', '```'));
  const directory = await mkdtemp(join(tmpdir(), 'phasegate-follow-'));
  const terminals = await Terminals.open(directory);
  const edits = [];
  try {
    await follow(page, { file: 'page', terminals, showsAll, isUpdate, edits });
  } finally {
    await terminals.close();
    await rm(directory, { recursive: true, force: true });
  }
  return edited(page, edits).replaceAll('```', '~~~');
}

const block = (info, ...lines) => [`~~~${info}`, ...lines, '~~~', ''].join('\n');

test('a page that tells the truth is followed', async () => {
  const page = [
    block('sh', 'name=ann', 'echo "hello $name"', 'echo aside >&2'), block('text', 'hello ann', 'aside'),
    block('sh exit=3', 'echo "still $name"', '(exit 3)', 'echo never'), block('text', 'still ann'),
    block('sh install', 'no-such-program'), block('yaml', 'for: readers'), block('sh', 'true'),
  ].join('\n');
  assert.equal(await followed(page), page);
});

test('another output is an error that shows the difference', async () => {
  const page = block('sh', 'echo one; echo two') + block('text', 'one', 'three');
  await assert.rejects(followed(page), /page:1: the output of[^]*echo one; echo two[^]*\n {2}one\n- three\n\+ two/);
});

test('an output that is not shown is an error', async () => {
  await assert.rejects(followed(block('sh', 'echo one')), /\+ one/);
  await followed(block('sh', 'echo one'), { showsAll: false });
});

test('another exit code is an error, also of a command before the last', async () => {
  await assert.rejects(followed(block('sh', 'false', 'true')), /it ends with 1/);
  await assert.rejects(followed(block('sh', 'false | cat')), /it ends with 1/);
  await assert.rejects(followed(block('sh exit=2', 'true')), /it ends with 0/);
});

test('what a terminal prints is waited for, in order', async () => {
  const page = [
    block('sh other', 'mkfifo pipe; echo ready; cat pipe'), block('text other', 'ready'),
    block('sh', 'echo one >pipe'), block('text other', 'one'),
  ].join('\n');
  assert.equal(await followed(page), page);
});

test('a terminal that ends without what is shown, or prints more, is an error', async () => {
  await assert.rejects(followed(block('sh other', 'echo two') + block('text other', 'one')), /- one\n\+ two/);
  const more = block('sh other', 'echo one; echo two') + block('text other', 'one', 'two') + block('sh other', 'echo three')
    + block('text other', '…');
  await followed(more);
  const left = block('sh other', 'mkfifo pipe; echo one; echo two; echo done >pipe') + block('text other', 'one')
    + block('sh', 'cat pipe') + block('text', 'done');
  await assert.rejects(followed(left), /does not show all/);
});

test('a page that makes no sense is an error', () => {
  assert.throws(() => parse('```sh\ntrue\n'), /does not end/);
  assert.throws(() => parse('```text\na\n```\n'), /after no command/);
  assert.throws(() => parse('```sh\na\n```\n```text\na\n```\n```text\nb\n```\n'), /after no command/);
  assert.throws(() => parse('## One\n', ['Two']), /no commands below "Two"/);
});

test('an update writes what was printed and leaves the rest', async () => {
  const page = `# Page\n\n${block('sh', 'echo one; echo two')}\n${block('text', '…', 'three')}\nEnd\n`;
  const written = `# Page\n\n${block('sh', 'echo one; echo two')}\n${block('text', '…', 'two')}\nEnd\n`;
  assert.equal(await followed(page, { isUpdate: true }), written);
  const bare = `${block('sh', 'echo one')}End\n`;
  assert.equal(await followed(bare, { isUpdate: true }), `~~~sh\necho one\n~~~\n\n~~~text\none\n~~~\nEnd\n`);
});
