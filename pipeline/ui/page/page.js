"use strict";
// Everything on the page is made of text nodes: nothing from the tables is ever read as HTML.

const byId = (id) => document.getElementById(id);
const main = byId("main");

function h(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// ---- words and numbers

const whole = (number) => number.toLocaleString("en");
const signed = (number) => {
  const size = Math.abs(number);
  if (size && size < 0.001) return number < 0 ? "> −0.001" : "< 0.001";
  return (number < 0 ? "−" : "+") + size.toFixed(size && size < 0.01 ? 3 : 2);
};
const many = (count, one, more) => `${whole(count)} ${count === 1 ? one : more || one + "s"}`;

function duration(seconds) {
  const size = Math.abs(seconds);
  if (size < 10) return `${seconds.toFixed(2)} s`;
  if (size < 90) return `${seconds.toFixed(0)} s`;
  if (size < 5400) return `${(seconds / 60).toFixed(0)} min`;
  if (size < 129600) return `${(seconds / 3600).toFixed(0)} h`;
  return `${whole(Math.round(seconds / 86400))} days`;
}

function clock(text, fraction = false) {
  if (!text) return "–";
  return `${text.slice(0, 10)} ${text.slice(11, fraction ? 23 : 19)}`;
}

function time(text, fraction) {
  return h("time", { datetime: text, title: text }, clock(text, fraction));
}

function ago(text) {
  const seconds = (Date.now() - Date.parse(text)) / 1000;
  return seconds < 2 ? "now" : `${duration(Math.max(0, Math.round(seconds))).replace(".00", "")} ago`;
}

const DID = {
  view: "looked at", click: "clicked", dwell: "spent time with", like: "liked", dislike: "disliked",
  share: "shared", save: "saved", cart: "put in the cart", purchase: "bought", rating: "rated",
  review: "reviewed", comment: "commented on", skip: "skipped", hide: "hid", impression: "was shown",
  query: "asked", profile: "declared a profile", retract: "took something back",
};

// ---- the server

async function ask(path) {
  let answer;
  try {
    answer = await fetch(path, { headers: { accept: "application/json" } });
  } catch {
    throw { error: "unreachable", message: "The server does not answer. Was it ended?" };
  }
  const found = await answer.json().catch(() => ({ error: "broken", message: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw found;
  return found;
}

const pathOf = (user, rest) => `api/users/${encodeURIComponent(user)}/${rest}`;
const linkTo = (user, number) => `#/user/${encodeURIComponent(user)}${number ? `/${number}` : ""}`;

// ---- where we are

const shown = { view: "", user: null, number: null, newest: null, total: 0, hash: "", open: new Set(), asked: 0 };

function place() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  if (parts[0] === "overview") return { view: "overview" };
  if (parts[0] === "user" && parts[1]) {
    try {
      return { view: "lists", user: decodeURIComponent(parts[1]), number: Number(parts[2]) || null };
    } catch { /* a link that was cut */ }
  }
  return { view: "lists", user: null, number: null };
}

async function go() {
  const to = place();
  if (to.user !== shown.user) {
    shown.open.clear();
    shown.hash = "";
  }
  Object.assign(shown, { user: null, number: null }, to);
  document.body.classList.toggle("wide", to.view === "overview");
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === to.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  markRecent();
  await show();
}

async function show() {
  const asked = ++shown.asked;
  const current = () => asked === shown.asked;
  try {
    if (shown.view === "overview") {
      const found = await ask("api/overview");
      if (current()) drawOverview(found);
    } else if (shown.user === null) {
      const found = await ask("api/users?order=recent&limit=1");
      if (!current()) return;
      if (found.users.length) location.replace(linkTo(found.users[0].user_id));
      else drawWaiting();
    } else {
      await showUser(shown.user, shown.number, current);
    }
  } catch (problem) {
    if (!current()) return;
    if (!problem.error) throw problem;
    drawProblem(problem);
  }
}

async function showUser(user, number, current) {
  const page = number ? `history?limit=1&before=${number + 1}` : "history?limit=1";
  const [list, history] = await Promise.all([
    number ? null : ask(pathOf(user, "list")),
    ask(pathOf(user, page)),
  ]);
  if (!current()) return;
  const version = history.versions[0];
  if (!version) throw { error: "no_version", message: `There are ${history.total} versions of this list.` };
  const same = list && version.state_version === list.state_version;
  drawList(user, {
    ...(list || version),
    number: version.number,
    total: history.total,
    changes: list && !same ? null : version.changes,
    tombstone: !list && version.tombstone,
    hindsight: !list && version.hindsight,
    events: { ...history.events, ...(list ? list.events : {}) },
    newest: !number,
  });
}

// ---- a list

function drawList(user, version) {
  document.title = `${user} · livelist`;
  shown.total = version.total;
  shown.at = version.number;
  const largest = Math.max(...version.items.flatMap((item) => item.reasons.map((why) => Math.abs(why.contribution))), 1e-9);
  const fresh = shown.hash && shown.hash !== version.list_hash && version.newest;
  shown.hash = version.newest ? version.list_hash : "";
  const moves = movesOf(version.changes);
  if (fresh) byId("said").textContent = `The list of ${user} was refreshed. ${summary(version.changes)}`;
  redraw(
    h("div", { class: "head" },
      h("div", {},
        h("h1", {}, user),
        h("p", { class: "note" }, many(version.items.length, "item"), version.newest ? ", as of " : ", as it was at ", time(version.event_time), " UTC"),
      ),
      steps(user, version),
    ),
    whyNow(version),
    h("ol", { class: "list", "aria-label": `List of ${user}` },
      version.items.map((item) => h("li", { class: fresh && moves.has(item.item_id) ? "changed" : null }, listed(item, moves.get(item.item_id), version.events, largest))),
    ),
    whatLeft(version),
    facts(version),
  );
}

function movesOf(changes) {
  const moves = new Map();
  if (!changes) return moves;
  for (const item of changes.entered) moves.set(item.item_id, h("span", { class: "move new" }, "new"));
  for (const item of changes.moved) {
    const places = item.from - item.to;
    const words = `${places > 0 ? "up" : "down"} ${Math.abs(places)}, from place ${item.from}`;
    moves.set(item.item_id, h("span", { class: "move", title: words, "aria-label": words, role: "img" }, `${places > 0 ? "▲" : "▼"} ${Math.abs(places)}`));
  }
  return moves;
}

function steps(user, version) {
  if (version.total < 2) return null;
  const step = (number) => () => { location.hash = linkTo(user, number === version.total ? null : number); };
  return h("div", { class: "steps", role: "group", "aria-label": "Versions of this list" },
    h("button", { type: "button", "aria-label": "Older version", id: "older", disabled: version.number <= 1, onclick: step(version.number - 1) }, "←"),
    h("output", {}, `${whole(version.number)} of ${whole(version.total)}`),
    h("button", { type: "button", "aria-label": "Newer version", id: "newer", disabled: version.number >= version.total, onclick: step(version.number + 1) }, "→"),
    h("button", { type: "button", id: "newest", disabled: version.newest, onclick: step(version.total) }, "Newest"),
  );
}

function whyNow(version) {
  if (version.tombstone) return h("div", { class: "why-now" }, h("p", {}, "The user was erased: the list is empty, and the evidence is gone."));
  const triggers = version.trigger_event_ids;
  const told = triggers.slice(-3).reverse().map((id) => sentence(id, version.events[id]));
  const rest = triggers.length - told.length;
  const lines = told.length
    ? told.map((text, place) => h("p", {}, place ? "and " : h("b", {}, "Refreshed after "), text))
    : [h("p", {}, h("b", {}, "Refreshed "), "without new feedback of this user, by a new index or at the end of a run")];
  if (rest > 0) lines.push(h("p", { class: "quiet" }, `and ${many(rest, "earlier event")}`));
  if (version.hindsight) lines.push(h("p", { class: "quiet" }, "In hindsight: past feedback ranked with the final index; never the current list."));
  const changed = summary(version.changes);
  if (changed) lines.push(h("p", { class: "quiet" }, changed));
  return h("div", { class: "why-now" }, lines);
}

function summary(changes) {
  if (!changes) return "";
  const told = [
    changes.entered.length && `${changes.entered.length} entered`,
    changes.left.length && `${changes.left.length} left`,
    changes.moved.length && `${changes.moved.length} moved`,
  ].filter(Boolean);
  return told.length ? `Since the version before: ${told.join(", ")}.` : "The same items in the same order as the version before.";
}

function sentence(id, event) {
  if (!event) return h("span", {}, "event ", h("code", {}, id), ", which is not among the feedback that counts: taken back, replaced or aged out");
  const about = event.item_id === null ? "" : ` ${event.title || event.item_id}`;
  const parts = [`they ${DID[event.kind] || event.kind}${about}`];
  if (event.rating !== null) parts.push(`rating ${event.rating}`);
  if (event.polarity !== null) parts.push(`words of tone ${signed(event.polarity)}`);
  if (event.topics && event.topics.length) parts.push(event.topics.map((topic) => topic.name).join(", "));
  if (event.intent) parts.push(event.intent);
  return h("span", {}, parts.join("; "));
}

function name(item, as) {
  const props = { class: "item" };
  return item.title ? h(as, props, item.title, h("span", { class: "id" }, item.item_id)) : h(as, props, item.item_id);
}

function listed(item, move, events, largest) {
  const when = (id) => (events[id] ? events[id].event_time : "");
  const cited = [...new Set(item.reasons.flatMap((why) => why.event_ids))].sort((one, other) => (when(one) < when(other) ? 1 : -1));
  const title = name(item, "h2");
  if (move) title.append(move);
  return [
    h("span", { class: "rank" }, String(item.rank)),
    title,
    h("span", { class: "score", title: "additive score, before diversity" }, item.score.toFixed(2)),
    h("ul", { class: "reasons", "aria-label": "Why" }, item.reasons.map((why) => reason(why, largest))),
    h("details", {
      open: shown.open.has(item.item_id),
      ontoggle: (event) => shown.open[event.target.open ? "add" : "delete"](item.item_id),
    },
      h("summary", { id: `item-${item.rank}` }, cited.length ? `Evidence: ${many(cited.length, "event")}` : "Evidence: none of their own"),
      h("div", { class: "evidence" },
        cited.length ? cited.map((id) => evidence(id, events[id])) : h("p", { class: "note" }, "It rests on what many people do, on no feedback of this user."),
      ),
    ),
  ];
}

function reason(why, largest) {
  const against = why.contribution < 0;
  const width = `${(100 * Math.abs(why.contribution)) / largest}%`;
  return h("li", { title: why.code.replaceAll("_", " ") },
    h("span", { class: "sentence" }, why.text),
    h("span", { class: against ? "bar against" : "bar", "aria-hidden": "true" }, why.contribution ? h("i", { style: { width } }) : null),
    h("span", { class: "amount" }, why.contribution ? signed(why.contribution) : "0"),
  );
}

function evidence(id, event) {
  if (!event) return h("div", { class: "event" }, h("span", { class: "what" }, id), h("span", { class: "said" }, "not among the feedback that counts: taken back, replaced or aged out"));
  const said = [h("span", {}, time(event.event_time), " UTC")];
  if (event.rating !== null) said.push(h("span", {}, `rating ${event.rating}`));
  if (event.polarity !== null) said.push(h("span", {}, "tone ", scale(event.polarity), ` ${signed(event.polarity)}`));
  if (event.confidence !== null) said.push(h("span", {}, `confidence ${event.confidence.toFixed(2)}`));
  if (event.topics && event.topics.length) said.push(h("span", {}, event.topics.map((topic) => `${topic.name} ${topic.score.toFixed(2)}`).join(", ")));
  if (event.intent) said.push(h("span", {}, event.intent));
  if (event.weight !== null) said.push(h("span", {}, `counts ${signed(event.weight)}`));
  if (event.conflict) said.push(h("span", {}, "stars and words disagree"));
  const about = event.item_id === null ? "" : ` ${event.title || event.item_id}`;
  return h("div", { class: "event" },
    h("span", { class: "what" }, (DID[event.kind] || event.kind) + about),
    h("span", { class: "said" }, said, h("code", {}, id)),
  );
}

function scale(polarity) {
  return h("span", { class: "scale", "aria-hidden": "true" }, h("i", { class: polarity < 0 ? "bad" : null, style: { left: `${50 + 50 * polarity}%` } }));
}

function whatLeft(version) {
  const left = version.changes ? version.changes.left : [];
  if (!left.length) return null;
  return h("section", { class: "left", "aria-labelledby": "left-title" },
    h("h2", { id: "left-title" }, "Left since the version before"),
    h("ul", {}, left.map((item) => h("li", {}, h("s", {}, item.title || item.item_id), ` was ${item.rank}. ${whyLeft(item, version)}`))),
  );
}

function whyLeft(item, version) {
  const spoken = version.trigger_event_ids.map((id) => version.events[id]).find((event) => event && event.item_id === item.item_id);
  if (spoken) return `They ${DID[spoken.kind] || spoken.kind} it.`;
  return item.reason ? `It was there for: ${item.reason.text} (${signed(item.reason.contribution)})` : "";
}

function facts(version) {
  const age = version.freshness;
  const made = ["made ", h("b", {}, duration(age.event_to_emitted_seconds)), " after it"];
  const fresh = age.event_to_written_seconds === null
    ? [h("div", {}, made)]
    : [h("div", {}, made), h("div", {}, "written ", h("b", {}, duration(age.event_to_written_seconds)), " after it")];
  const pairs = [
    ["Newest feedback (UTC)", [time(version.event_time, true)]],
    ["From it to the list", fresh],
    ["Made (UTC)", [time(version.emitted_time, true)]],
    ["Written (UTC)", [version.written_time ? time(version.written_time, true) : "with the tables of its run"]],
    ["Model", [h("code", {}, version.model_version || "none: no text behind it")]],
    ["Item index", [h("code", {}, version.index_version)]],
    ["State version", [h("code", {}, String(version.state_version))]],
    ["List hash", [h("code", {}, version.list_hash.slice(0, 16))]],
  ];
  return h("dl", { class: "facts" }, pairs.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

// ---- the overview

function drawOverview(found) {
  document.title = "Overview · livelist";
  if (!found.tables && !found.accounting) return drawWaiting();
  redraw(
    h("h1", {}, "The run at a glance"),
    h("p", { class: "note" }, found.endless ? "An endless run" : "A bounded run", found.run_id ? [", ", h("code", {}, found.run_id)] : "", found.published_time ? [", tables published ", time(found.published_time), " UTC"] : ""),
    h("div", { class: "panels" },
      booksPanel(found.accounting),
      listsPanel(found.lists, !found.freshness),
      freshnessPanel(found.freshness),
      topicsPanel(found.topics),
      alertsPanel(found.alerts, found.rejects.length > 0),
      rejectsPanel(found.rejects, found.alerts.total > 0),
      tablesPanel(found.rows),
    ),
  );
}

function panel(title, note, wide, ...content) {
  return h("section", { class: wide ? "panel" : "panel half" }, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null, content);
}

function booksPanel(books) {
  if (!books) return panel("Accounting", "No books yet.", true);
  const closes = books.unaccounted === 0;
  let accepted = 0;
  let refused = 4;
  const fills = books.parts.map((part) => `fill-${part.accepted ? accepted++ : refused++}`);
  return panel("Accounting", books.so_far ? "So far: the run goes on." : "Every record that was read, exactly once.", true,
    h("p", { class: "big" }, whole(books.read), h("small", {}, ` records read; ${closes ? "the books close" : `${whole(books.unaccounted)} unaccounted for`}`)),
    h("div", { class: "stack", role: "img", "aria-label": books.line }, books.parts.map((part, place) => h("i", { class: fills[place], style: { flexGrow: part.records, flexBasis: 0 } }))),
    h("ul", { class: "legend" }, books.parts.map((part, place) => h("li", {}, h("i", { class: fills[place] }), h("b", {}, whole(part.records)), part.account))),
    books.notes.length || books.catalogue ? h("p", { class: "note", style: { marginTop: ".8rem" } }, [books.notes.length ? `Of these: ${books.notes.join(", ")}.` : "", books.catalogue].filter(Boolean).join(" ")) : null,
  );
}

function listsPanel(lists, wide) {
  const highest = Math.max(...lists.bars, 1);
  const besides = [lists.hindsight && `${whole(lists.hindsight)} in hindsight`, lists.tombstones && many(lists.tombstones, "erasure")].filter(Boolean).join(", ");
  const content = [h("p", { class: "big" }, whole(lists.lists), h("small", {}, ` lists made${besides ? `, besides ${besides}` : ""}`))];
  if (lists.bars.length > 2) {
    content.push(
      h("div", { class: "bars", role: "img", "aria-label": `Lists made per ${duration(lists.step_seconds)}, at most ${whole(highest)}` },
        lists.bars.map((count) => h("i", { title: whole(count), style: { height: `${(100 * count) / highest}%` } }))),
      h("div", { class: "axis" }, h("span", {}, clock(lists.first_time)), h("span", {}, `per ${step(lists.step_seconds)}, at most ${whole(highest)}`), h("span", {}, clock(lists.last_time).slice(11))),
    );
  } else if (lists.first_time) {
    content.push(h("p", { class: "note" }, "Made at ", clock(lists.last_time), " UTC, all at once, as a bounded run makes them."));
  }
  return panel("Lists refreshed", null, wide, content);
}

const step = (seconds) => (seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${seconds / 60} min` : seconds < 86400 ? `${seconds / 3600} h` : `${seconds / 86400} days`);

function freshnessPanel(fresh) {
  if (!fresh) return null;
  return panel("Freshness", `From the newest feedback to the written list: ${many(fresh.lists, "refresh", "refreshes")} in the ${step(fresh.window_seconds)} to ${clock(fresh.until)} UTC.`, false,
    h("dl", { class: "three" }, ["p50", "p95", "p99"].map((name) => {
      const [number, unit] = duration(fresh[name]).split(" ");
      return h("div", {}, h("dt", {}, name), h("dd", {}, number, h("small", {}, ` ${unit}`)));
    })),
  );
}

function topicsPanel(topics) {
  if (!topics.length) return panel("Tone by topic", "No texts with a topic yet.", true);
  const times = topics.flatMap((topic) => topic.windows.map((one) => Date.parse(one.start)));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const [from, to] = [first, last].map((at) => new Date(at).toISOString().slice(0, 10));
  const trend = first !== last;
  return panel("Tone by topic", trend ? `Mean polarity of the texts in each window, from −1 to +1; ${from} to ${to}.` : `Mean polarity of the texts in the one window so far, from ${from}.`, true,
    grid(["Topic", "Texts", "Mean", trend ? "Over time" : "From −1 to +1"], [1, 2], topics.map((topic) => [
      topic.topic, whole(topic.texts), signed(topic.mean_polarity), trend ? spark(topic, first, last) : scale(topic.mean_polarity),
    ])),
  );
}

function spark(topic, first, last) {
  const svg = (tag, props, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(props)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const x = (text) => (100 * (Date.parse(text) - first)) / (last - first);
  const points = topic.windows.map((one) => `${x(one.start).toFixed(2)} ${(16 - 15 * one.mean_polarity).toFixed(2)}`);
  const words = `${many(points.length, "window")}, the last at ${signed(topic.windows[topic.windows.length - 1].mean_polarity)}`;
  return svg("svg", { class: "spark", viewBox: "0 0 100 32", preserveAspectRatio: "none", role: "img", "aria-label": words },
    svg("line", { class: "zero", x1: 0, x2: 100, y1: 16, y2: 16 }),
    svg("path", { d: `M${points.join("L")}` }),
    svg("path", { class: "dot", d: `M${points[points.length - 1]}h0` }),
  );
}

function grid(names, numbers, rows) {
  const kind = (place) => (numbers.includes(place) ? "number" : null);
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": names.join(", ") }, h("table", {},
    h("thead", {}, h("tr", {}, names.map((name, place) => h("th", { scope: "col", class: kind(place) }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, place) => h("td", { class: kind(place) || (place === row.length - 1 ? "wrap" : null) }, cell))))),
  ));
}

function alertsPanel(alerts, wide) {
  if (!alerts.total) return panel("Alerts", "None.", wide);
  return panel("Alerts", alerts.total > alerts.newest.length ? `The newest ${alerts.newest.length} of ${whole(alerts.total)}.` : many(alerts.total, "alert"), true,
    grid(["Time (UTC)", "Kind", "About", "Evidence"], [], alerts.newest.map((alert) => [
      time(alert.time), alert.kind.replaceAll("_", " "), `${alert.subject_kind} ${alert.title || alert.subject}`, inWords(alert.evidence),
    ])),
  );
}

function inWords(evidence) {
  if (evidence === null || typeof evidence !== "object") return String(evidence);
  return Object.entries(evidence).map(([key, value]) => `${key.replaceAll("_", " ")} ${typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
}

function rejectsPanel(rejects, wide) {
  if (!rejects.length) return panel("Rejected records", "None.", wide);
  return panel("Rejected records", "By error code; the payloads are in the tables, redacted.", true,
    grid(["Code", "Table", "Records", "What it means, and what its sender can do"], [2], rejects.map((one) => [
      h("code", {}, one.error_code), one.table.replace("_", " "), whole(one.records), one.meaning ? `${one.meaning}: ${one.remedy}` : "–",
    ])),
  );
}

function tablesPanel(tables) {
  return panel("Tables", null, true, grid(["Table", "Rows", "Files"], [1, 2], Object.entries(tables).reverse().map(([name, of]) => [h("code", {}, name), whole(of.rows), whole(of.files)])));
}

// ---- when there is nothing to show

function drawWaiting() {
  shown.hash = "";
  redraw(h("div", { class: "empty" },
    h("h1", {}, "No lists yet"),
    h("p", {}, "No run has published its tables in this folder. The page looks again by itself."),
    h("p", { class: "note" }, h("code", {}, `livelist run --input events.jsonl --output ${byId("folder").textContent}`)),
  ));
}

function drawProblem(problem) {
  shown.hash = "";
  if (problem.error === "no_tables") return drawWaiting();
  const titles = { unknown_user: `No list for “${shown.user}”`, erased_user: `“${shown.user}” was erased` };
  const near = problem.nearest || [];
  redraw(h("div", { class: "empty", role: "alert" },
    h("h1", {}, titles[problem.error] || "This could not be shown"),
    h("p", {}, problem.message),
    near.length ? h("p", {}, "Did you mean ", near.flatMap((user, place) => [place ? ", " : "", h("a", { href: linkTo(user) }, user)]), "?") : null,
  ));
}

function redraw(...content) {
  const focused = document.activeElement && main.contains(document.activeElement) ? document.activeElement.id : "";
  main.replaceChildren(...content.filter(Boolean));
  if (focused) {
    const again = byId(focused);
    (again && !again.disabled ? again : main).focus({ preventScroll: true });
  }
}

// ---- choosing a user

const search = byId("q");
const options = byId("found");
let chosen = -1;
let typing = 0;

async function complete() {
  const query = search.value;
  const asked = ++typing;
  if (!query) return close();
  await new Promise((done) => setTimeout(done, 120));
  if (asked !== typing) return;
  const found = await ask(`api/users?order=match&limit=12&q=${encodeURIComponent(query)}`).catch(() => null);
  if (!found || asked !== typing) return;
  chosen = -1;
  options.replaceChildren(...found.users.map((user, place) => h("li", {
    role: "option", id: `option-${place}`, "aria-selected": "false", "data-user": user.user_id, onmousedown: (event) => event.preventDefault(), onclick: () => pick(user.user_id),
  }, marked(user.user_id, query))));
  options.hidden = !found.users.length;
  search.setAttribute("aria-expanded", String(!options.hidden));
  search.removeAttribute("aria-activedescendant");
  byId("q-help").textContent = found.matching ? `${whole(found.matching)} of ${many(found.total, "user")}` : `None of ${many(found.total, "user")}`;
}

function marked(text, query) {
  const at = text.toLowerCase().indexOf(query.toLowerCase());
  return at < 0 ? [text] : [text.slice(0, at), h("mark", {}, text.slice(at, at + query.length)), text.slice(at + query.length)];
}

function close() {
  options.hidden = true;
  chosen = -1;
  search.setAttribute("aria-expanded", "false");
  search.removeAttribute("aria-activedescendant");
  byId("q-help").textContent = "";
}

function pick(user) {
  ++typing;
  search.value = "";
  close();
  location.hash = linkTo(user);
  main.focus({ preventScroll: true });
}

function choose(place) {
  const all = [...options.children];
  if (!all.length) return;
  chosen = (place + all.length) % all.length;
  all.forEach((option, at) => option.setAttribute("aria-selected", String(at === chosen)));
  all[chosen].scrollIntoView({ block: "nearest" });
  search.setAttribute("aria-activedescendant", all[chosen].id);
}

search.addEventListener("input", complete);
search.addEventListener("blur", close);
search.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen < 0 ? -1 : chosen - 1);
  else if (event.key === "Enter" && chosen >= 0) pick(options.children[chosen].dataset.user);
  else if (event.key === "Enter" && search.value) pick(search.value);
  else if (event.key === "Escape") { search.value = ""; close(); } else return;
  event.preventDefault();
});

byId("random").addEventListener("click", async () => {
  const found = await ask("api/users?order=random").catch(() => null);
  if (found && found.users.length) location.hash = linkTo(found.users[0].user_id);
});

async function drawRecent() {
  const found = await ask("api/users?order=recent&limit=12").catch(() => null);
  if (!found) return;
  byId("recent").replaceChildren(...found.users.map((user) => h("li", {},
    h("a", { href: linkTo(user.user_id), "data-user": user.user_id },
      h("span", {}, user.user_id), h("time", { datetime: user.refreshed_time }, ago(user.refreshed_time))))));
  if (document.activeElement !== search) byId("q-help").textContent = found.total ? many(found.total, "user") : "";
  markRecent();
}

function markRecent() {
  for (const link of byId("recent").querySelectorAll("a")) {
    if (link.dataset.user === shown.user) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

document.addEventListener("keydown", (event) => {
  if (event.target === search || event.target.closest(".scroll") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { search.focus(); event.preventDefault(); }
  else if (event.key === "ArrowLeft" && byId("older")) byId("older").click();
  else if (event.key === "ArrowRight" && byId("newer")) byId("newer").click();
  else if (event.key === "o") location.hash = "#/overview";
});

// ---- as the tables change

let health = null;
let stamps = {};
let waiting = false;

async function drawState() {
  health = await ask("healthz").catch(() => null);
  if (health) byId("folder").textContent = health.output;
  tick();
}

function tick() {
  const state = byId("state");
  const live = health && health.endless && health.published_time && Date.now() - Date.parse(health.published_time) < 120000;
  state.toggleAttribute("data-live", Boolean(live));
  let words = "the server does not answer";
  if (health) words = !health.published_time ? "waiting for the first tables" : health.endless ? `endless run, published ${ago(health.published_time)}` : `bounded run of ${clock(health.published_time)} UTC`;
  state.textContent = words;
  for (const time of byId("recent").querySelectorAll("time")) time.textContent = ago(time.dateTime);
}

async function follow(changed) {
  if (waiting) return;
  waiting = true;
  setTimeout(async () => {
    waiting = false;
    await Promise.all([drawState(), drawRecent()]);
    const ours = shown.view === "overview" || changed.has("recommendations_latest");
    if (ours && !(shown.view === "lists" && shown.number)) await show();
  }, 250);
}

let changes = null;

// A browser opens few connections to one server: a tab that nobody sees lets go of its own.
function listen() {
  if (document.hidden) {
    if (changes) changes.close();
    changes = null;
    return;
  }
  if (changes) return;
  changes = new EventSource("api/changes");
  changes.addEventListener("tables", (event) => {
    const now = JSON.parse(event.data);
    const changed = new Set(Object.keys(now).filter((table) => now[table] !== stamps[table]));
    const first = !Object.keys(stamps).length;
    stamps = now;
    if (!first && changed.size) follow(changed);
  });
  changes.addEventListener("error", drawState);
  changes.addEventListener("open", drawState);
}

document.addEventListener("visibilitychange", listen);
listen();
window.addEventListener("hashchange", go);
setInterval(tick, 5000);
Promise.all([drawState(), drawRecent()]).then(go);
