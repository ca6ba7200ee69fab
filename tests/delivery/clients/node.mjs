// An application on node: `node.mjs in-process|rpc|ofrep`.
import { FlagdProvider } from '@openfeature/flagd-provider';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';
import { ENVIRONMENTS, PORT, say, serve, tellEvents } from './lines.mjs';

const kind = process.argv[2];

function provider(environment) {
  if (kind === 'ofrep') {
    return new OFREPProvider({ baseUrl: `http://127.0.0.1:${PORT}/environments/${environment}` });
  }
  return new FlagdProvider({
    host: '127.0.0.1', port: PORT, tls: false, resolverType: kind, selector: `flagSetId=${environment}`, deadlineMs: 5000,
  });
}

for (const environment of ENVIRONMENTS) {
  tellEvents(OpenFeature.getClient(environment), ProviderEvents, environment);
  try {
    await OpenFeature.setProviderAndWait(environment, provider(environment));
  } catch (error) {
    say({ event: 'failed', environment, message: error.message });
  }
}

await serve((environment, { flag, type, default: fallback, context }) => {
  const client = OpenFeature.getClient(environment);
  return type === 'boolean'
    ? client.getBooleanDetails(flag, fallback, context)
    : client.getObjectDetails(flag, fallback, context);
});
