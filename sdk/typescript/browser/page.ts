// What the page does, with the SDK as it is bundled for browsers: the test calls it, and looks at what it says.

import { connect, PhasegateError, Reason, v1 } from '@phasegate/client';

/** What came of a rollout. */
interface Told {
  /** Each update in a word. */
  readonly updates: string[];
  /** What it ended as. */
  readonly end: string;
  /** Why the second abort was refused. */
  readonly refusal: string;
}

/** Triggers a release, ends it, watches it to its end, and ends it once more. */
async function rollOut(address: string): Promise<Told> {
  const phasegate = connect(address, { principal: 'ann', groups: ['sre'] });
  const { name } = await phasegate.triggerRelease({
    release: { flag: 'flags/checkout', change: { case: 'featureGate', value: { defaultValue: true } } },
  });
  const updates: string[] = [];
  let end = '';
  for await (const update of phasegate.watchRelease(name)) {
    updates.push(update.type);
    if (update.type === 'snapshot') await phasegate.fullRollout({ name, reason: 'all is well' });
    if (update.type === 'change') end = v1.ReleaseState[update.release.state];
  }
  const again = await phasegate.abortRelease({ name, reason: 'too late' }).then(() => '', refusalOf);
  return { updates, end, refusal: again };
}

function refusalOf(error: unknown): string {
  if (!(error instanceof PhasegateError)) return String(error);
  return error.reason === Reason.ReleaseOver ? 'the release is over' : error.message;
}

/** What a call comes to, made once. */
async function ask(address: string): Promise<string> {
  const phasegate = connect(address, { retry: { attempts: 1 } });
  return phasegate.listFlags().then(
    ({ flags }) => `${flags.length} flags`,
    (error: PhasegateError) => `${error.code} ${error.reason}${error.isUnreachable ? ' unreachable' : ''}`,
  );
}

/** A watch that is left after its first update, and one that is aborted. */
async function leave(address: string): Promise<string[]> {
  const phasegate = connect(address);
  const words: string[] = [];
  for await (const update of phasegate.watchReleases()) {
    words.push(update.type);
    break;
  }
  const controller = new AbortController();
  try {
    for await (const _ of phasegate.watchReleases({}, { signal: controller.signal })) controller.abort();
  } catch (error) {
    if (error instanceof PhasegateError) words.push(error.code);
  }
  return words;
}

Object.assign(globalThis, { page: { rollOut, ask, leave } });
