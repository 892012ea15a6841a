// What single keys do: one table, which is also the help. They can be switched off, since
// software that types for people sends letters too (WCAG 2.1.4).

const first = (selector) => [...document.querySelectorAll(selector)].find((e) => e.checkVisibility());
const links = () => [...document.querySelectorAll("[data-row] .act a:not(.pick), [data-row] a.open, .rental a.what")];
const pick = () => document.activeElement?.closest("[data-row], .rental")?.querySelector(".pick");

function step(by) {
  const all = links();
  const at = all.indexOf(document.activeElement);
  all.at(Math.min(Math.max(at + by, 0), all.length - 1))?.focus();
}

const KEYS = [
  ["/", "Search", () => first("input[type=search]"), (field) => field.focus()],
  ["j", "Next row", () => links().length, () => step(1)],
  ["k", "Previous row", () => links().length, () => step(-1)],
  ["x", "Pick the row that has the focus", () => document.querySelector("[data-row] .pick, .rental .pick"), () => pick()?.click()],
  ["c", "Copy the ssh command", () => document.getElementById("copy-ssh-command"), (button) => button.click()],
  ["?", "These shortcuts", () => true, () => open()],
];

// ---- the help

const help = document.getElementById("shortcuts");
const wanted = document.getElementById("shortcuts-on");
const off = () => localStorage.getItem("keys") === "off";

const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });

function line([key, words]) {
  const term = document.createElement("dt");
  term.append(make("kbd", key));
  return [term, make("dd", words)];
}

function open() {
  const here = KEYS.filter(([, , there]) => there());
  const always = [["Enter", "Open what has the focus"], ["Esc", "Close a menu, a sheet or this"]];
  help.querySelector("dl").replaceChildren(...[...here, ...always].flatMap(line));
  wanted.checked = !off();
  help.showModal(); // keeps the focus inside, and gives it back
}

wanted.addEventListener("change", () => localStorage.setItem("keys", wanted.checked ? "on" : "off"));
help.addEventListener("click", (e) => e.target === help && help.close());
document.addEventListener("click", (e) => {
  const button = e.target.closest?.("[data-shortcuts]");
  const menu = button?.closest("details");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus(); // the focus comes back to something that is seen
  }
  if (button) open();
});

// ---- the keys

const typing = (e) => e.target.closest?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable], dialog");

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || off() || typing(e)) return;
  const [, , there, act] = KEYS.find(([key]) => key === e.key) ?? [];
  const target = there?.();
  if (!target) return;
  e.preventDefault();
  act(target);
});
