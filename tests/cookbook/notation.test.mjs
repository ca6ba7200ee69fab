// The comparison of the pages can fail: otherwise it would prove nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { difference, linesOf, matches, rewrite, standsForFirst } from './notation.mjs';

/** What is shown stands for what was printed, or it does not. */
function check(expected, shown, printed) {
  assert.equal(matches(linesOf(shown), linesOf(printed)), expected, `${shown}\n-- and --\n${printed}`);
}

const ID = '1f9bf521-5a9f-469a-beab-228dc6a4c491';

test('what is shown stands for what is printed letter by letter', () => {
  check(true, 'a\n  b', 'a\n  b\n');
  check(true, 'a', 'a   \n\n');
  check(false, 'a\nb', 'a\nc');
  check(false, 'a', 'a\nb');
  check(false, 'a\nb', 'a');
  check(false, 'a', ' a');
  check(false, 'a.c', 'abc');
  check(true, '', '');
  check(false, '', 'a');
});

test('an ellipsis alone stands for lines and not for none', () => {
  check(true, 'a\n…\nd', 'a\nb\nc\nd');
  check(true, '{\n  …\n}', '{\n  "a": {\n  }\n}');
  check(false, 'a\n…\nd', 'a\nd');
  check(false, 'a\n…\nd', 'a\nb\nc');
  check(false, '…', '');
});

test('an ellipsis in a line stays in that line', () => {
  check(true, 'a … c', 'a b c');
  check(false, 'a … c', 'a  c');
  check(false, 'a … c', 'a b\nc');
});

test('a kind stands for its values and for no others', () => {
  check(true, '"<uuid>"', `"${ID}"`);
  check(false, '"<uuid>"', '"1f9bf521"');
  check(false, '<uuid>', `${ID} `.repeat(2));
  check(true, '<hash>', 'a'.repeat(64));
  check(false, '<hash>', 'a'.repeat(63));
  check(true, '127.0.0.1:<port>', '127.0.0.1:40001');
  check(false, '127.0.0.1:<port>', '127.0.0.1:0');
  check(true, '<time>', '2030-06-14T18:00:00Z');
  check(false, '<time>', 'now');
  check(false, '<nothing>', 'x');
});

test('what comes first is enough for a terminal that goes on', () => {
  assert.equal(standsForFirst(['{', '…', '}'], ['{', '  a', '}', '{']), 3);
  assert.equal(standsForFirst(['{', '…', '}'], ['{', '  a']), undefined);
});

test('a difference shows the lines that differ and those around them', () => {
  const shown = ['{', '  "state": "BAKING",', '  …', '  "id": "<uuid>"', '}'];
  const printed = ['{', '  "state": "PAUSED",', '  1', '  2', `  "id": "${ID}"`, '}'];
  assert.equal(difference(shown, printed), [
    '  {', '-   "state": "BAKING",', '+   "state": "PAUSED",', '    …', '    "id": "<uuid>"', '  }',
  ].join('\n'));
});

test('what is written anew keeps what still holds', () => {
  const shown = ['{', '  …', '  "id": "<uuid>",', '  "old": 1', '}'];
  const printed = ['{', '  1', '  2', `  "id": "${ID}",`, '  "new": 1,', `  "store": "${ID}"`, '}'];
  const written = rewrite(shown, printed);
  assert.deepEqual(written, ['{', '  …', '  "id": "<uuid>",', '  "new": 1,', '  "store": "<uuid>"', '}']);
  assert.ok(matches(written, printed));
});
