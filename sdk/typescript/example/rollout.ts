// Makes a pipeline and a flag, triggers a release, and watches it live to its end:
//
//   PHASEGATE_ADDRESS=http://127.0.0.1:7433 node rollout.js
//
// Against a server that believes what callers say of themselves, such as `phasegate serve --memory`.

import { connect, PhasegateError, Reason, v1 } from '@phasegate/client';

const address = process.env.PHASEGATE_ADDRESS ?? 'http://127.0.0.1:7433';
const phasegate = connect(address, { principal: 'ann@example.com', groups: ['sre'] });

/** Makes what may be there from the last time. */
async function ensure(made: Promise<unknown>): Promise<void> {
  try {
    await made;
  } catch (error) {
    if (!(error instanceof PhasegateError) || error.reason !== Reason.ResourceExists) throw error;
    console.log(`${error.metadata.resource} is there already`);
  }
}

await ensure(
  phasegate.createPipeline({
    pipelineId: 'web',
    pipeline: {
      phases: [
        { id: 'canary', rules: [{ id: 'few', rolloutBasisPoints: 100 }], bakeDuration: { seconds: 1n } },
        { id: 'staff', rules: [{ id: 'half', rolloutBasisPoints: 5000 }], approval: { minApprovals: 1 } },
        { id: 'everyone', rules: [{ id: 'all' }] },
      ],
    },
  }),
);
await ensure(
  phasegate.createFlag({
    flagId: 'checkout-v2',
    flag: { pipeline: 'pipelines/web', spec: { case: 'featureGate', value: { defaultValue: false } } },
  }),
);

const flag = await phasegate.getFlag('flags/checkout-v2');
const isOn = flag.spec.case === 'featureGate' && flag.spec.value.defaultValue;
const release = await phasegate.triggerRelease({
  release: {
    flag: flag.name,
    change: { case: 'featureGate', value: { defaultValue: !isOn } },
    description: `turn it ${isOn ? 'off' : 'on'}`,
  },
});

for await (const update of phasegate.watchRelease(release.name)) {
  switch (update.type) {
    case 'snapshot':
      console.log(`${update.release.name} is ${v1.ReleaseState[update.release.state]}`);
      break;
    case 'change':
      for (const { eventType, phaseId } of update.events) {
        console.log(`${v1.ReleaseEventType[eventType]} ${phaseId}`);
      }
      if (update.release.state === v1.ReleaseState.AWAITING_APPROVAL) await approve(update.release);
      break;
    case 'interrupted':
      console.log(`the stream broke: ${update.error.message}`);
      break;
    case 'restarted':
      console.log(`beginning anew: ${update.error.message}`);
      break;
  }
}
console.log('over');
phasegate.close();

/** Approves as the one who triggered, which is refused, and then as somebody else. */
async function approve({ name, currentPhaseId: phaseId }: v1.Release): Promise<void> {
  try {
    await phasegate.approvePhase({ name, phaseId });
  } catch (error) {
    if (!(error instanceof PhasegateError) || error.reason !== Reason.SelfApproval) throw error;
    console.log('somebody else must approve');
    const bob = connect(address, { principal: 'bob@example.com' });
    await bob.approvePhase({ name, phaseId, reason: 'looks good' });
    bob.close();
  }
}
