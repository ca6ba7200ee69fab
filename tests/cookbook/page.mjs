// A page as steps: commands, and what they show.
//
// The steps are the fenced blocks of the page. After the language stand words for this test; a reader does not see
// them:
//
//   sh                  commands for the one shell of the page; what one block sets, the next one finds
//   sh exit=73          they are to end with this exit code; without it, with 0. A command that fails ends its block
//   sh NAME             a command for a terminal of that name, which may go on; one that runs there is ended first,
//                       as Ctrl-C does
//   sh install          not for this test: whoever runs it has done that already
//   text, json          after `sh`: all that it printed, stdout and stderr; a block that nothing follows prints nothing
//   text NAME           what the terminal of that name prints next; it is waited for
//
// How one stands for the other is in notation.mjs. Blocks in other languages are for readers only.
import { linesOf } from './notation.mjs';

const FENCE = /^```(.*)$/;
const SHOWS = new Set(['text', 'json']);

/** Reads a page. Of one with `sections`, those below these headings of the second level. */
export function parse(text, sections) {
  const lines = text.split('\n');
  const steps = [];
  let section = '';
  let previous;
  for (let at = 0; at < lines.length; at += 1) {
    const heading = /^## (.*)$/.exec(lines[at]);
    if (heading) section = heading[1];
    const fence = FENCE.exec(lines[at]);
    if (!fence) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`line ${at + 1}: a block that does not end`);
    const block = { from: at + 1, to: end, section, body: lines.slice(at + 1, end) };
    const [language, ...words] = fence[1].split(' ');
    const exit = Number(words.find((word) => word.startsWith('exit='))?.slice('exit='.length) ?? 0);
    const names = words.filter((word) => !word.startsWith('exit='));
    if (names.length > 1) throw new Error(`line ${at + 1}: more than one terminal`);
    const terminal = names[0];
    at = end;
    if (sections && !sections.includes(section)) continue;
    if (language === 'sh' && terminal !== 'install') {
      previous = { kind: 'run', terminal, exit, command: block.body.join('\n'), shown: undefined, ...block };
      steps.push(previous);
    } else if (SHOWS.has(language) && terminal) {
      steps.push({ kind: 'shows', terminal, shown: linesOf(block.body.join('\n')), ...block });
      previous = undefined;
    } else if (SHOWS.has(language) && previous && !previous.terminal && !previous.shown) {
      previous.shown = { lines: linesOf(block.body.join('\n')), from: block.from, to: block.to };
    } else if (SHOWS.has(language)) {
      throw new Error(`line ${block.from}: this is shown after no command`);
    }
  }
  for (const wanted of sections ?? []) {
    if (!steps.some((step) => step.section === wanted)) throw new Error(`no commands below "${wanted}"`);
  }
  return { lines, steps };
}

/** The page with other lines shown: each edit has `from` and `to` (of lines.slice) and the `lines` in their place. */
export function edited(page, edits) {
  const lines = [...page.lines];
  for (const edit of [...edits].sort((a, b) => b.from - a.from)) {
    lines.splice(edit.from, edit.to - edit.from, ...edit.lines);
  }
  return lines.join('\n');
}
