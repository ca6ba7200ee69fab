// Applications in browsers, one for each context that is asked about: the web SDK and its OFREP provider, with
// the EventSource that node does not have. Nothing polls; what changes an answer is the stream of events.
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { EventSource } from 'eventsource';
import { PORT, serve, tellEvents } from './lines.mjs';

globalThis.EventSource = EventSource;

const open = new Map();

/** The browser of somebody, opened once. */
function browser(environment, context) {
  const domain = `${environment} ${JSON.stringify(context)}`;
  if (!open.has(domain)) open.set(domain, arrive(domain, environment, context));
  return open.get(domain);
}

async function arrive(domain, environment, context) {
  const client = OpenFeature.getClient(domain);
  tellEvents(client, ProviderEvents, environment);
  await OpenFeature.setContext(domain, context);
  await OpenFeature.setProviderAndWait(domain, new OFREPWebProvider({
    baseUrl: `http://127.0.0.1:${PORT}/environments/${environment}`, cacheMode: 'disabled',
  }));
  return client;
}

await serve(async (environment, { flag, type, default: fallback, context }) => {
  const client = await browser(environment, context);
  return type === 'boolean' ? client.getBooleanDetails(flag, fallback) : client.getObjectDetails(flag, fallback);
});
