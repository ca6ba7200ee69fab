// What a page shows, against what was printed.
//
// What is shown stands for what is printed letter by letter, with two exceptions:
//
//   …         alone on a line: one or more lines, whatever is in them; inside a line: one or more characters of it
//   <name>    a value of one of the kinds below, which differs from run to run
//
// Spaces at the end of a line do not count, because editors take them away.

/** What differs from run to run. The kinds are few on purpose: what is the same each time is shown as it is. */
const KINDS = {
  uuid: '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}',
  hash: '[0-9a-f]{64}',
  port: '[1-9][0-9]{0,4}',
  time: '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(?:\\.\\d+)?Z',
};

const LINES = '…';
const isLines = (line) => line.trim() === LINES;

/** Lines of a text, without what does not count. */
export function linesOf(text) {
  const lines = text.split('\n').map((line) => line.trimEnd());
  while (lines.length > 0 && lines.at(-1) === '') lines.pop();
  return lines;
}

/** Whether a line that is shown stands for one that was printed. */
function standsFor(shown, printed) {
  if (shown === printed) return true;
  const escaped = shown.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll(LINES, '.+');
  const pattern = escaped.replace(/<([a-z]+)>/g, (whole, kind) => (kind in KINDS ? `(?:${KINDS[kind]})` : whole));
  return new RegExp(`^${pattern}$`).test(printed);
}

/** The least number of printed lines, from the first on, that what is shown stands for; undefined if there is none. */
export function standsForFirst(shown, printed) {
  // ends: after how many printed lines the lines shown so far can end.
  let ends = new Set([0]);
  for (const line of shown) {
    const next = new Set();
    for (const end of ends) {
      if (isLines(line)) {
        for (let after = end + 1; after <= printed.length; after += 1) next.add(after);
      } else if (end < printed.length && standsFor(line, printed[end])) {
        next.add(end + 1);
      }
    }
    ends = next;
  }
  return ends.size === 0 ? undefined : Math.min(...ends);
}

/** Whether what is shown stands for all that was printed. */
export function matches(shown, printed) {
  // Nothing but the end of what was printed has this for a text.
  const end = '\0';
  return standsForFirst([...shown, end], [...printed, end]) !== undefined;
}

// What a line costs that differs. A shown line that goes is dear, and each further line of an ellipsis costs a little:
// otherwise an ellipsis would swallow what was printed for its neighbours.
const [GONE, CHANGED, NEW, FURTHER] = [1, 1.05, 0.1, 0.06];

/**
 * Lays what is shown beside what was printed with as few differences as there can be. Each pair has one line of
 * `shown`, some of `printed`, or both; `same` says whether the one stands for the other.
 */
export function align(shown, printed) {
  const costs = Array.from({ length: shown.length + 1 }, () => new Array(printed.length + 1).fill(Infinity));
  const ways = costs.map((row) => row.map(() => undefined));
  costs[0][0] = 0;
  const reach = (i, j, cost, way) => {
    if (cost < costs[i][j]) [costs[i][j], ways[i][j]] = [cost, way];
  };
  for (let i = 0; i <= shown.length; i += 1) {
    for (let j = 0; j <= printed.length; j += 1) {
      const cost = costs[i][j];
      if (i < shown.length && j < printed.length) {
        if (isLines(shown[i])) {
          for (let after = j + 1; after <= printed.length; after += 1) {
            reach(i + 1, after, cost + FURTHER * (after - j - 1), { i, j, same: true });
          }
        } else {
          const same = standsFor(shown[i], printed[j]);
          reach(i + 1, j + 1, cost + (same ? 0 : CHANGED), { i, j, same });
        }
      }
      if (i < shown.length) reach(i + 1, j, cost + GONE, { i, j, same: false });
      if (j < printed.length) reach(i, j + 1, cost + NEW, { i, j, same: false });
    }
  }
  const pairs = [];
  for (let [i, j] = [shown.length, printed.length]; i > 0 || j > 0;) {
    const way = ways[i][j];
    pairs.push({ shown: shown.slice(way.i, i), printed: printed.slice(way.j, j), same: way.same });
    [i, j] = [way.i, way.j];
  }
  return pairs.reverse();
}

/** The difference, for a person: `-` is what the page shows, `+` what was printed instead. */
export function difference(shown, printed) {
  return align(shown, printed).flatMap((pair) => (pair.same
    ? pair.shown.map((line) => `  ${line}`)
    : [...pair.shown.map((line) => `- ${line}`), ...pair.printed.map((line) => `+ ${line}`)])).join('\n');
}

/** What a page has to show for what was printed, as much of it as now as still holds. */
export function rewrite(shown, printed) {
  return align(shown, printed).flatMap((pair) => (pair.same ? pair.shown : pair.printed.map(generalize)));
}

/** A printed line with the kinds in place of what surely differs from run to run; 74.. are the ports of pages. */
function generalize(line) {
  return line
    .replace(new RegExp(KINDS.uuid, 'g'), '<uuid>')
    .replace(new RegExp(`(?!0{64})${KINDS.hash}`, 'g'), '<hash>')
    .replace(/(?<=\b127\.0\.0\.1:)(?!74[0-9]{2}\b)[0-9]+/g, '<port>');
}
