// What a page does by itself: it follows the server, counts time by the server's clock, and shows
// dialogs. Everything works without it, as plain pages and forms.
'use strict';

(() => {
  const body = document.body;
  const connection = document.getElementById('connection');
  const announcement = document.getElementById('announcement');
  const dialog = document.getElementById('dialog');

  // --- time ---

  const manual = body.dataset.clock === 'manual';
  let serverNow = body.dataset.now ? Number(body.dataset.now) : null;
  let readAt = performance.now();

  // The server's clock; that of a rehearsal stands still between what the server says.
  function now() {
    return manual ? serverNow : serverNow + (performance.now() - readAt);
  }

  function setNow(millis) {
    serverNow = millis;
    readAt = performance.now();
    const clock = document.querySelector('#rehearsal-clock time');
    if (clock) {
      clock.dateTime = new Date(millis).toISOString();
    }
    tick();
  }

  const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

  // By its two largest units, rounded up, as the server writes it.
  function span(millis) {
    const seconds = Math.ceil(Math.max(0, millis) / 1000);
    const largest = UNITS.findIndex(([size]) => seconds >= size);
    if (largest < 0) return '0 s';
    const [size, unit] = UNITS[largest];
    let text = `${Math.floor(seconds / size)} ${unit}`;
    if (largest + 1 < UNITS.length) {
      const [next, smaller] = UNITS[largest + 1];
      const rest = Math.floor((seconds % size) / next);
      if (rest > 0) text += ` ${rest} ${smaller}`;
    }
    return text;
  }

  const DAY = { day: 'numeric', month: 'short' };
  const CLOCK = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
  const FULL = { ...DAY, year: 'numeric', ...CLOCK, second: '2-digit' };

  function written(time, style) {
    if (style === 'full') return time.toLocaleString('en-GB', FULL);
    const today = new Date(now()).toDateString() === time.toDateString();
    return time.toLocaleString('en-GB', today ? CLOCK : { ...DAY, ...CLOCK });
  }

  function set(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // Instants in the zone of whoever looks; UTC stays in the title.
  function localize(root) {
    if (serverNow === null) return;
    for (const time of root.querySelectorAll('time[data-style]')) {
      if (time.dataset.style !== 'ago') set(time, written(new Date(time.dateTime), time.dataset.style));
    }
  }

  function tick() {
    if (serverNow === null) return;
    const at = now();
    for (const left of document.querySelectorAll('[data-until]')) {
      const until = Number(left.dataset.until);
      if (left.tagName === 'PROGRESS') {
        left.value = Math.max(0, left.max - Math.max(0, until - at));
      } else {
        set(left, span(until - at));
      }
    }
    for (const time of document.querySelectorAll('time[data-style="ago"]')) {
      const passed = at - Date.parse(time.dateTime);
      set(time, passed < 5000 ? 'just now' : `${span(passed)} ago`);
    }
    const clock = document.querySelector('#rehearsal-clock time');
    if (clock) set(clock, written(new Date(clock.dateTime), 'full'));
  }

  // --- following the server ---

  let source = null;
  let retry = null;
  let attempts = 0;
  let heard = performance.now();

  // How an element is found again in what takes its place: by its id, or by where it leads.
  function selector(element) {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute('href');
    return href === null ? null : `a[href="${CSS.escape(href)}"]`;
  }

  // What has the focus, what is open and what is typed stays so.
  function swap(section, html) {
    const active = section.contains(document.activeElement) ? document.activeElement : null;
    const focused = active && selector(active);
    const [start, end] = [active?.selectionStart, active?.selectionEnd];
    const open = [...section.querySelectorAll('details[open][id]')].map((details) => details.id);
    const typed = new Map([...section.querySelectorAll('input[id]:not([type=hidden]), textarea[id], select[id]')]
      .map((field) => [field.id, field.value]));
    section.innerHTML = html;
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    for (const [id, value] of typed) {
      const field = document.getElementById(id);
      if (field) field.value = value;
    }
    if (active) {
      const same = focused && section.querySelector(focused);
      (same || document.getElementById('main')).focus({ preventScroll: true });
      if (same && typeof start === 'number') same.setSelectionRange(start, end);
    }
    localize(section);
  }

  function receive(message) {
    if (message.version !== body.dataset.version) {
      // The server is another program now, and this page is made for the old one.
      if (!dialog.open) location.reload();
      return;
    }
    document.title = `${message.title} · Phasegate`;
    let changed = false;
    for (const { id, hash, html } of message.regions) {
      const section = document.getElementById(id);
      if (!section || section.dataset.hash === hash) continue;
      swap(section, html);
      section.dataset.hash = hash;
      changed ||= id === 'standing' || id === 'list';
    }
    setNow(message.now);
    if (changed) {
      const standing = document.querySelector('#standing .sentence');
      set(announcement, standing ? standing.textContent.trim() : 'The list has changed.');
    }
  }

  function lost() {
    connection.hidden = false;
    body.classList.add('stale');
    const since = new Date().toLocaleTimeString('en-GB');
    if (!connection.dataset.since) connection.dataset.since = since;
    set(connection, `Connection lost. You see the state of ${connection.dataset.since}; trying again.`);
  }

  function found() {
    connection.hidden = true;
    delete connection.dataset.since;
    body.classList.remove('stale');
    attempts = 0;
  }

  // What this page shows is not there any more, so there is nothing to come back for.
  function gone(text) {
    source.close();
    delete body.dataset.live;
    connection.hidden = false;
    body.classList.add('stale');
    set(connection, `You see what was here before: ${text}.`);
  }

  function follow() {
    clearTimeout(retry);
    source?.close();
    if (!body.dataset.live || document.hidden) return;
    source = new EventSource(body.dataset.live);
    heard = performance.now();
    const hear = (act) => (event) => {
      heard = performance.now();
      found();
      act(JSON.parse(event.data));
    };
    source.addEventListener('regions', hear(receive));
    source.addEventListener('clock', hear((message) => setNow(message.now)));
    // Whoever is not signed in any more is led to where one signs in.
    source.addEventListener('login', () => location.reload());
    source.addEventListener('gone', hear((message) => gone(message.text)));
    source.onerror = () => {
      lost();
      again();
    };
  }

  // With growing pauses, and never all at once.
  function again() {
    source?.close();
    clearTimeout(retry);
    attempts += 1;
    const pause = Math.min(10000, 250 * 2 ** Math.min(attempts, 6));
    retry = setTimeout(follow, pause / 2 + Math.random() * (pause / 2));
  }

  // A hidden page needs no stream, and browsers allow only some to one host.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) source?.close();
    else follow();
  });
  addEventListener('online', follow);
  addEventListener('offline', lost);
  addEventListener('pagehide', () => source?.close());
  // Back from where browsers keep pages as they were.
  addEventListener('pageshow', (event) => {
    if (event.persisted) follow();
  });

  // --- dialogs ---

  let opener = null;

  // What goes into a dialog. A page that says no comes with a frame around it.
  async function content(response) {
    const template = document.createElement('template');
    template.innerHTML = await response.text();
    return (template.content.querySelector('main') ?? template).innerHTML;
  }

  async function show(href) {
    try {
      const response = await fetch(href, { headers: { 'x-phasegate-fragment': '1' } });
      if (response.redirected) return location.assign(href);
      dialog.innerHTML = await content(response);
      localize(dialog);
      if (!dialog.open) dialog.showModal();
    } catch {
      lost();
    }
  }

  async function send(form) {
    const button = form.querySelector('button.primary');
    if (button) button.disabled = true;
    try {
      const response = await fetch(form.action, {
        method: 'POST',
        headers: { 'x-phasegate-fragment': '1' },
        body: new URLSearchParams(new FormData(form)),
      });
      if (response.status === 204) return dialog.close();
      dialog.innerHTML = await content(response);
      localize(dialog);
      dialog.querySelector('[role=alert]')?.scrollIntoView({ block: 'nearest' });
      // What had the focus is gone with the form that was refused.
      dialog.querySelector('[autofocus], [data-close]')?.focus();
    } catch {
      if (button) button.disabled = false;
      let problem = form.querySelector('.unsent');
      if (!problem) {
        problem = document.createElement('p');
        problem.className = 'refusal unsent';
        problem.setAttribute('role', 'alert');
        form.prepend(problem);
      }
      problem.textContent = 'The server did not answer. It may or may not have been done; '
        + 'sending it again does it once.';
    }
  }

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a');
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (link && plain && 'dialog' in link.dataset) {
      event.preventDefault();
      opener = link.id;
      link.closest('details')?.removeAttribute('open');
      show(link.href);
    } else if (link && 'close' in link.dataset && dialog.contains(link)) {
      event.preventDefault();
      dialog.close();
    }
    // A click elsewhere closes a menu.
    for (const menu of document.querySelectorAll('details.menu[open]')) {
      if (!menu.contains(event.target)) menu.removeAttribute('open');
    }
  });

  // The second half of a double click may meet a form that has just come. It decides nothing.
  dialog.addEventListener('click', (event) => {
    if (event.detail > 1 && event.target.closest('button')) event.preventDefault();
  });

  dialog.addEventListener('submit', (event) => {
    event.preventDefault();
    send(event.target);
  });

  dialog.addEventListener('close', () => {
    dialog.replaceChildren();
    const back = opener && document.getElementById(opener);
    const menu = back?.closest('details');
    (menu ? menu.querySelector('summary') : back ?? document.getElementById('main'))?.focus();
    opener = null;
  });

  document.addEventListener('keydown', (event) => {
    const menu = event.target.closest?.('details.menu');
    if (!menu) return;
    if (event.key === 'Escape' && menu.open) {
      menu.open = false;
      menu.querySelector('summary').focus();
    } else if (menu.open && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
      event.preventDefault();
      const items = [...menu.querySelectorAll('summary, li > *')];
      const step = event.key === 'ArrowDown' ? 1 : items.length - 1;
      items[(items.indexOf(document.activeElement) + step) % items.length].focus();
    }
  });

  localize(document);
  tick();
  setInterval(tick, 1000);
  // The server speaks every ten seconds at least; what is silent for three times that is dead.
  setInterval(() => {
    if (source && !document.hidden && source.readyState !== EventSource.CLOSED
      && performance.now() - heard > 30000) {
      lost();
      again();
    }
  }, 5000);
  follow();
})();
