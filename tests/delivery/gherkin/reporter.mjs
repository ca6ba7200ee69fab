// Tells of a test only if it fails, and at the end how many there were.
export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type === 'test:fail' && data.details.type !== 'suite') {
      yield `✖ ${data.name}\n  ${data.details.error.cause?.message ?? data.details.error.message}\n`;
    }
    if (type === 'test:diagnostic' && data.nesting === 0) yield `ℹ ${data.message}\n`;
  }
}
