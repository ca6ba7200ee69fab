// What the applications of node have in common: lines of JSON in and out.
import { createInterface } from 'node:readline';

export const PORT = Number(process.env.PHASEGATE_PORT);
export const ENVIRONMENTS = process.env.ENVIRONMENTS.split(' ');

export const say = (message) => console.log(JSON.stringify(message));

/** Says what a provider tells of itself. */
export function tellEvents(of, events, environment) {
  const names = {
    [events.Ready]: 'ready',
    [events.ConfigurationChanged]: 'configuration_changed',
    [events.Stale]: 'stale',
    [events.Error]: 'error',
  };
  for (const [event, name] of Object.entries(names)) {
    of.addHandler(event, (details) => say({
      event: name, environment, flags: details?.flagsChanged, message: details?.message,
    }));
  }
}

/** Answers what is asked, in order, until stdin ends. */
export async function serve(evaluate) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, environment, evaluate: asked } = JSON.parse(line);
    const answers = await Promise.all(asked.map((one) => evaluate(environment, one)));
    say({
      id,
      answers: answers.map(({ value, variant, reason, errorCode, errorMessage, flagMetadata }) => (
        { value, variant, reason, errorCode, errorMessage, flagMetadata }
      )),
    });
  }
  process.exit(0);
}
