// The code of docs/delivery.md is run as it stands there, against a server on a port of its own.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client, PATIENCE, Server, TOOLS } from './stage.mjs';

const ROOT = join(import.meta.dirname, '..', '..');
const run = promisify(execFile);

/** A fence that is run has its language and a name: ```js node-in-process */
const FENCE = /^```(js|python|rust|sh) ([a-z0-9-]+)\n(.*?)^```$/gms;
const text = await readFile(join(ROOT, 'docs', 'delivery.md'), 'utf8');
const fences = [...text.matchAll(FENCE)].map(([, language, name, code]) => ({ language, name, code }));

const wanted = (process.env.DELIVERY_CLIENTS ?? '').split(' ').filter(Boolean);
const isWanted = (name) => wanted.length === 0 || wanted.includes('document') || wanted.some((one) => name.startsWith(one));

/** How the code of a language becomes a command; \`path\` is a folder of the fence's own. */
const COMMANDS = {
  async js(code, name) {
    // Packages of node are found from where a program stands.
    const file = join(TOOLS, 'node', `document-${name}.mjs`);
    await writeFile(file, code);
    // What browsers have and node does not.
    const shim = 'data:text/javascript,import { createRequire } from "node:module";'
      + `globalThis.EventSource = createRequire(${JSON.stringify(join(TOOLS, 'node', 'x.js'))})("eventsource").EventSource`;
    return [process.execPath, ...(name === 'browser' ? ['--import', shim] : []), file];
  },
  async python(code, name) {
    const file = join(TOOLS, `document-${name}.py`);
    await writeFile(file, code);
    return [join(TOOLS, 'python', 'bin', 'python'), file];
  },
  async rust(code, name) {
    const folder = join(TOOLS, `document-${name}`);
    const client = join(import.meta.dirname, 'clients', 'rust');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'client.rs'), code);
    // The same dependencies, which are built already, for a program of another name.
    const manifest = await readFile(join(client, 'Cargo.toml'), 'utf8');
    await writeFile(join(folder, 'Cargo.toml'), manifest.replace('name = "client"', `name = "document-${name}"`));
    await copyFile(join(client, 'Cargo.lock'), join(folder, 'Cargo.lock'));
    const target = join(TOOLS, 'rust');
    // From where the toolchain of the repository is found.
    await run('cargo', ['build', '--quiet', '--locked', '--offline', '--manifest-path', join(folder, 'Cargo.toml')], {
      cwd: client, timeout: 300_000, env: { ...process.env, CARGO_TARGET_DIR: target, PROTOC: process.env.DELIVERY_PROTOC },
    });
    return [join(target, 'debug', `document-${name}`)];
  },
  async sh(code) {
    return ['/bin/sh', '-ec', code];
  },
};

let server;
let folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'phasegate-delivery-'));
  server = new Server(join(folder, 'data'), ['--default-environment', 'prod']);
  await server.start();
  const quick = join(ROOT, 'examples', 'quick');
  await server.pg('apply', '-f', join(quick, 'pipeline.yaml'), '-f', join(quick, 'flag.yaml'));
  // Its first phase is for beta users in prod, and the clock stands still.
  await server.pg('release', 'trigger', '-f', join(quick, 'release.yaml'), '--id', 'checkout-on');
}, { timeout: 60_000 });

after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

for (const { language, name, code } of fences.filter((fence) => isWanted(fence.name))) {
  test(`docs/delivery.md, ${name}: a beta user in prod has the change`, { timeout: 360_000 }, async (t) => {
    const own = code.replaceAll('7433', `${server.port}`);
    const [command, ...args] = await COMMANDS[language](own, name);
    const foreign = Object.entries(process.env).filter(([key]) => !key.startsWith('PHASEGATE_'));
    const child = spawn(command, args, { env: Object.fromEntries(foreign), stdio: ['ignore', 'pipe', 'pipe'] });
    t.after(() => child.kill('SIGKILL'));
    let said = '';
    // Some providers keep a program alive, so its answer is awaited and not its end.
    const answered = new Promise((resolve) => {
      child.stdout.on('data', (bytes) => {
        said += bytes;
        if (/^(true|True)$/m.test(said) || /"value": ?true/.test(said)) resolve();
      });
    });
    let complaint = '';
    child.stderr.on('data', (bytes) => { complaint += bytes; });
    const ended = once(child, 'close').then(() => {
      throw new Error(`it ended and has said ${JSON.stringify(said)}: ${complaint}`);
    });
    ended.catch(() => {});
    await Promise.race([answered, ended]);
  });
}

test('docs/delivery.md has code for every way that it names', () => {
  const names = fences.map(({ name }) => name);
  for (const name of ['node-in-process', 'node-rpc', 'browser', 'python-in-process', 'python-rpc', 'python-ofrep', 'rust', 'curl']) {
    assert.ok(names.includes(name), `no code is named ${name}`);
  }
});

test('docs/delivery.md installs the versions that are tried here', async () => {
  const tried = await readFile(join(import.meta.dirname, 'run'), 'utf8')
    + await readFile(join(import.meta.dirname, 'clients', 'rust', 'Cargo.toml'), 'utf8');
  const installed = [...text.matchAll(/^(?:npm|pip) install (.*)$/gm)].flatMap(([, packages]) => packages.split(' '));
  const crates = [...text.matchAll(/^(open-feature\S*) = "(=[^"]*)"/gm)].map(([, name, version]) => [name, version]);
  assert.ok(installed.length > 8 && crates.length === 2);
  for (const one of installed) assert.ok(tried.includes(`  ${one}\n`), `${one} is not tried`);
  for (const [name, version] of crates) {
    assert.match(tried, new RegExp(`^${name} = .*"${version}"`, 'm'), `${name} ${version} is not tried`);
  }
});

test('an environment that nobody names is no environment', { timeout: PATIENCE }, async (t) => {
  if (!isWanted('node')) return t.skip();
  const client = Client.start({ program: 'node', kind: 'in-process', port: server.port, environments: ['nowhere'] });
  t.after(() => client.stop());
  await client.evaluate('nowhere', []);
  const [failed] = client.events.filter(({ event }) => event === 'failed');
  assert.match(failed.message, /environments\/nowhere is named by no flag and no pipeline/);
});
