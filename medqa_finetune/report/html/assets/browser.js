// The browser of predictions: finds, sorts and shows a page of questions with every cell's answer.
const PAGE = 10;
const FLAGS = [[1, "limit"], [2, "timed_out"]];
const NEGATIONS = /[不勿禁忌未无别没非]/gu;
const browser = byId("list") && {
  groups: JSON.parse(byId("data").textContent), group: 0, page: 0, shown: new Set(), found: [],
};

// What a cell or a score is called, in the language that is shown.
function inLanguage(names) {
  return names[root.dataset.lang];
}

function scoreOf(item, cell, place) {
  const values = item[4][cell];
  return values && place >= 0 ? values[place] : null;
}

// Mean, smallest and largest score of a question over the cells looked at; null where none has one.
function spread(item, cells, place) {
  const values = cells.map((cell) => scoreOf(item, cell, place)).filter((value) => value !== null);
  if (!values.length) return null;
  return { mean: values.reduce((sum, value) => sum + value, 0) / values.length, range: Math.max(...values) - Math.min(...values) };
}

function negations(text) {
  return (text || "").match(NEGATIONS)?.length ?? 0;
}

const FILTERS = {
  all: () => true,
  empty: (item, cells) => cells.some((cell) => item[5][cell] & 4),
  limit: (item, cells) => cells.some((cell) => item[5][cell] & 3),
  same: (item, cells) => new Set(cells.map((cell) => item[3][cell])).size === 1,
  negation: (item, cells) => cells.some((cell) => (negations(item[3][cell]) > 0) !== (negations(item[2]) > 0)),
};
const ORDERS = {
  worst: (one, other) => one.spread.mean - other.spread.mean,
  best: (one, other) => other.spread.mean - one.spread.mean,
  different: (one, other) => other.spread.range - one.spread.range,
  long: (one, other) => other.length - one.length,
};

function settings() {
  const data = browser.groups[browser.group];
  const shown = data.cells.map((_, cell) => cell).filter((cell) => browser.shown.has(cell));
  const of = byId("of").value;
  return {
    data, shown, place: data.scores.indexOf(byId("score").value), judged: of === "all" ? shown : [Number(of)],
    query: byId("search").value.trim().toLowerCase(), order: byId("sort").value, filter: FILTERS[byId("show").value],
    most: byId("most").value === "" ? Infinity : Number(byId("most").value),
  };
}

function find() {
  const { data, shown, judged, place, query, order, filter, most } = settings();
  const matches = (item) => !query || [item[0], item[1], item[2], ...shown.map((cell) => item[3][cell])]
    .some((text) => text && text.toLowerCase().includes(query));
  const found = [];
  for (const item of data.items) {
    const own = spread(item, judged, place);
    if (!filter(item, judged) || !matches(item) || (most !== Infinity && !(own && own.mean <= most))) continue;
    found.push({ item, spread: own, length: Math.max(0, ...shown.map((cell) => (item[3][cell] || "").length)) });
  }
  const compare = ORDERS[order];
  if (compare) found.sort((one, other) => (order !== "long" && (!one.spread || !other.spread) ? !one.spread - !other.spread : compare(one, other)));
  browser.found = found;
  browser.page = 0;
  show();
}

function scoreLine(item, cell, place, name) {
  const box = element("div", "values");
  const value = scoreOf(item, cell, place);
  box.append(value === null ? "–" : `${name} ${value.toFixed(1)}`);
  const all = item[4][cell];
  if (all) box.title = browser.groups[browser.group].scores.map((each, at) => `${inLanguage(browser.groups[browser.group].titles[each])} ${all[at].toFixed(2)}`).join("\n");
  if (value !== null) {
    const meter = element("div", "meter");
    const fill = element("i");
    fill.style.width = `${Math.max(0, Math.min(100, value))}%`;
    meter.append(fill);
    box.append(meter);
  }
  return box;
}

function answerRow(item, cell, place, name) {
  const row = element("div", "row");
  const label = element("div", "cell", inLanguage(browser.groups[browser.group].cells[cell].label));
  for (const [flag, key] of FLAGS) if (item[5][cell] & flag) label.append(element("br"), element("span", "flag", words(key)));
  const marked = byId("marks").checked ? item[2] : null;
  row.append(label, scoreLine(item, cell, place, name), textBox(item[3][cell] ?? null, marked));
  return row;
}

function card({ item, spread: own }, { data, shown, place }) {
  const name = place >= 0 ? inLanguage(data.titles[data.scores[place]]) : "";
  const made = element("li", "item");
  const header = element("header");
  const id = element("div", "id");
  id.append(element("bdi", "", item[0]));
  if (own) id.append(element("span", "", words("spread", { mean: own.mean.toFixed(1), range: own.range.toFixed(1) })));
  const question = textBox(item[1]);
  question.classList.add("question");
  header.append(id, question);
  const reference = element("div", "row reference");
  reference.append(element("div", "cell", words("reference")), element("div", "values"), textBox(item[2]));
  made.append(header, reference, ...shown.map((cell) => answerRow(item, cell, place, name)));
  return made;
}

function show() {
  const now = settings();
  const pages = Math.max(1, Math.ceil(browser.found.length / PAGE));
  browser.page = Math.max(0, Math.min(browser.page, pages - 1));
  const part = browser.found.slice(browser.page * PAGE, (browser.page + 1) * PAGE);
  byId("list").replaceChildren(...part.map((each) => card(each, now)));
  byId("count").textContent = words("count", {
    found: browser.found.length.toLocaleString("en"), count: now.data.items.length.toLocaleString("en"),
  });
  byId("where").textContent = `${browser.page + 1} / ${pages}`;
  byId("previous").disabled = browser.page === 0;
  byId("next").disabled = browser.page === pages - 1;
}

// Words by their key, in all languages.
function inAll(key) {
  return Object.fromEntries(Object.entries(WORDS).map(([lang, all]) => [lang, all[key]]));
}

// An element with a name, which the switch of languages changes.
function named(tag, names) {
  const made = element(tag, "", inLanguage(names));
  Object.assign(made.dataset, names);
  return made;
}

function option(value, names) {
  const made = named("option", names);
  made.value = value;
  return made;
}

function checkbox(cell, at) {
  const label = element("label");
  const box = element("input");
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => {
    if (box.checked) browser.shown.add(at); else browser.shown.delete(at);
    find();
  });
  label.append(box, " ", named("span", cell.label));
  return label;
}

function enterGroup(number) {
  browser.group = number;
  const { cells, scores, titles } = browser.groups[number];
  browser.shown = new Set(cells.keys());
  byId("score").replaceChildren(...scores.map((name) => option(name, titles[name])));
  byId("of").replaceChildren(option("all", inAll("all_cells")), ...cells.map((cell, at) => option(String(at), cell.label)));
  byId("cells").replaceChildren(...cells.map(checkbox));
  for (const part of document.querySelectorAll("[data-group]")) part.hidden = Number(part.dataset.group) !== number;
  find();
}

function turn(pages) {
  browser.page += pages;
  show();
  byId("answers").scrollIntoView();
  byId("count").scrollIntoView({ block: "center" });
}

if (browser) {
  let waiting;
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 150); });
  for (const id of ["sort", "score", "of", "show", "most"]) byId(id).addEventListener("input", find);
  byId("marks").addEventListener("change", show);
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("group")?.addEventListener("change", (event) => enterGroup(Number(event.target.value)));
  onLanguage.push(show);
}
setLanguage(remembered("lang") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
if (browser) enterGroup(0);
