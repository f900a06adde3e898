"use strict";
// The page as a whole: language, light or dark, which group is shown, sorting of tables, copying of commands.
// Text of others enters the page as text nodes alone, never as markup.
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const remembered = (key) => { try { return localStorage.getItem(`medqa-report-${key}`); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem(`medqa-report-${key}`, value); } catch { /* private mode */ } };
// What the script writes, by language and key, with `{names}` for what is put in.
const WORDS = JSON.parse(byId("main").dataset.words);
const words = (key, values = {}) => WORDS[root.dataset.lang][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const onLanguage = [];

function setLanguage(lang) {
  root.dataset.lang = lang;
  root.lang = lang === "zh" ? "zh-Hans" : "en";
  for (const option of document.querySelectorAll("[data-en]")) option.textContent = option.dataset[lang];
  for (const redraw of onLanguage) redraw();
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

byId("language").addEventListener("click", () => {
  const lang = root.dataset.lang === "zh" ? "en" : "zh";
  remember("lang", lang);
  setLanguage(lang);
});
byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remember("theme", root.dataset.theme);
});
if (remembered("theme")) root.dataset.theme = remembered("theme");

// Ascending and descending in turn; a value that was not measured is always last.
function sortBy(table, column, button) {
  const heading = button.closest("th");
  const rising = heading.getAttribute("aria-sort") !== "ascending";
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].dataset.value;
  const compare = (one, other) => {
    if (key(one) === undefined) return one.cells[column].textContent.localeCompare(other.cells[column].textContent) * (rising ? 1 : -1);
    if (key(one) === "" || key(other) === "") return (key(one) === "") - (key(other) === "");
    return (Number(key(one)) - Number(key(other))) * (rising ? 1 : -1);
  };
  body.append(...[...body.rows].sort(compare));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = cell.querySelector("button");
    button.addEventListener("click", () => sortBy(table, column, button));
  });
}

// Charts of one kind, one per score: the usual ones, or the one that was chosen.
for (const select of document.querySelectorAll("select.by-score")) {
  select.addEventListener("change", () => {
    const grid = select.parentElement.nextElementSibling;
    const chosen = select.value.split(" ");
    for (const figure of grid.querySelectorAll("figure")) figure.hidden = !chosen.includes(figure.dataset.score);
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const source = button.parentElement.querySelector("pre, code");
    try { await navigator.clipboard.writeText(source.textContent); } catch { getSelection().selectAllChildren(source); }
    button.classList.add("copied");
    const before = [...button.childNodes];
    button.textContent = "✓";
    setTimeout(() => button.replaceChildren(...before), 1200);
  });
}
