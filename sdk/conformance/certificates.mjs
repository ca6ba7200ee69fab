// An authority, and what it vouches for: made anew for each scenario, worth nothing elsewhere.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const CURVE = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Makes `ca.pem`, `cert.pem` with `key.pem` for the server, and `client.pem` with `client-key.pem`. */
export async function certificates(folder) {
  const openssl = (...args) => promisify(execFile)('openssl', args, { cwd: folder });
  await openssl('req', '-x509', ...CURVE, '-keyout', 'ca-key.pem', '-out', 'ca.pem', '-days', '1', '-subj', '/CN=conformance');
  await signed(openssl, folder, { name: 'server', out: 'cert', key: 'key', san: 'IP:127.0.0.1', use: 'serverAuth' });
  await signed(openssl, folder, {
    name: 'client', out: 'client', key: 'client-key', san: 'URI:spiffe://example.org/ann', use: 'clientAuth',
  });
}

async function signed(openssl, folder, { name, out, key, san, use }) {
  await openssl('req', '-new', ...CURVE, '-keyout', `${key}.pem`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  await writeFile(join(folder, `${name}.ext`), `subjectAltName=${san}\nextendedKeyUsage=${use}\nbasicConstraints=CA:FALSE\n`);
  await openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial',
    '-days', '1', '-extfile', `${name}.ext`, '-out', `${out}.pem`);
}
