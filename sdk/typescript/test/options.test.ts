// What a caller may say of a connection, and what is refused before anything is sent.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { tokenFileCredential } from '../src/node/token-file.js';
import * as node from '../src/node.js';
import { type ConnectOptions, tokenCredential } from '../src/options.js';
import { Code, Reason } from '../src/reason.js';
import * as web from '../src/web.js';

/** Why these options are refused. */
function refusal(address: string, options: ConnectOptions = {}, connect = node.connect): string {
  try {
    connect(address, options).close();
  } catch (error) {
    assert(error instanceof node.PhasegateError);
    assert.equal(error.code, Code.InvalidArgument);
    assert.equal(error.reason, Reason.None);
    return error.message;
  }
  return '';
}

test('both entries offer the same', () => {
  assert.deepEqual(Object.keys(node).sort(), Object.keys(web).sort());
});

test('what is no address of a server is refused, and says what one looks like', () => {
  const addresses = ['', '127.0.0.1:7433', 'ftp://127.0.0.1:7433', 'http//x', 'http:///', 'a b', 'http:x'];
  for (const address of [
    ...addresses,
    'http://a.example/path',
    'http://ann@a.example',
    'http://a.example?x',
  ]) {
    assert.match(refusal(address), /is no address such as/, address);
  }
  for (const address of ['http://127.0.0.1:7433', 'http://127.0.0.1:7433/', 'https://a.example']) {
    assert.equal(refusal(address), '');
  }
});

test('a token goes over TLS or stays on this machine', () => {
  const token = 'pgt_x';
  for (const { connect } of [node, web]) {
    for (const good of ['http://127.0.0.1:1', 'http://[::1]:1', 'http://localhost:1', 'https://a.example']) {
      assert.equal(refusal(good, { token }, connect), '', good);
    }
    for (const far of ['http://10.0.0.1:1', 'http://a.example', 'http://127.0.0.1.example:1']) {
      assert.match(refusal(far, { token }, connect), /use https/);
      assert.match(refusal(far, { token: () => token }, connect), /use https/);
      assert.equal(refusal(far, { token, insecurePlaintextToken: true }, connect), '');
      assert.equal(refusal(far, {}, connect), '');
    }
  }
});

test('what cannot be sent as metadata is refused with its name', () => {
  const address = 'http://127.0.0.1:7433';
  assert.match(refusal(address, { principal: 'J\u{fc}rgen' }), /the principal .* printable ASCII/);
  assert.match(refusal(address, { principal: 'a\nb' }), /the principal .* printable ASCII/);
  assert.match(refusal(address, { groups: ['sre', '\u{e9}quipe'] }), /the groups .* printable ASCII/);
  assert.match(refusal(address, { groups: ['a,b'] }), /comma/);
});

test('a time that no timer keeps is refused', () => {
  const address = 'http://127.0.0.1:7433';
  assert.match(refusal(address, { timeoutMs: 0 }), /timeoutMs is 0/);
  assert.match(refusal(address, { timeoutMs: Number.NaN }), /timeoutMs is NaN/);
  assert.match(refusal(address, { silenceMs: 2 ** 31 }), /silenceMs/);
  assert.match(refusal(address, { retry: { attempts: 0 } }), /retry.attempts/);
});

test('certificates need https, each other, and files that can be read', () => {
  const file = join(import.meta.dirname, 'none');
  assert.match(refusal('http://a.example', { caFile: file }), /need an https address/);
  assert.match(refusal('https://a.example', { caFile: file }), /cannot read .*none/);
  assert.match(refusal('https://a.example', { certificateFile: file }), /need each other/);
  assert.match(refusal('https://a.example', { tokenFile: file }), /cannot read the token in .*none/);
  assert.match(refusal('https://a.example', { token: 'a', tokenFile: file }), /not both/);
});

test('files are refused where there are none', () => {
  for (const option of ['tokenFile', 'caFile', 'certificateFile', 'keyFile']) {
    assert.match(
      refusal('https://a.example', { [option]: 'x' }, web.connect),
      new RegExp(`${option} is an option of`),
    );
  }
});

test('a token is shown to nobody', async () => {
  for (const token of ['', 'two words', 'pgt_\u{fc}', 'a\nb']) {
    assert.throws(() => tokenCredential(token), { rawMessage: 'a token is one word of printable ASCII' });
  }
  assert.equal(await tokenCredential(' pgt_secret\n').value(), 'Bearer pgt_secret');
});

test('a token that is renewed in its file is sent from then on', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'phasegate-token-'));
  try {
    const path = join(folder, 'token');
    writeFileSync(path, 'pgt_one\n');
    const credential = tokenFileCredential(path);
    assert.equal(await credential.value(), 'Bearer pgt_one');
    writeFileSync(path, 'pgt_number_two\n');
    assert.equal(await credential.value(), 'Bearer pgt_number_two');
    // Half a renewal, or none, is no reason to send nothing.
    writeFileSync(path, '');
    assert.equal(await credential.value(), 'Bearer pgt_number_two');
    rmSync(path);
    assert.equal(await credential.value(), 'Bearer pgt_number_two');
    assert.throws(() => tokenFileCredential(path));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
