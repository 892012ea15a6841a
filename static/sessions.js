// Pages of sessions: money that grows, the window's title, and what people picked.

const skew = Date.parse(document.body.dataset.now) - Date.now() || 0;

function money(amount) {
  return "$" + amount.toFixed(amount < 0.1 ? 4 : 2);
}

function grow() {
  for (const e of document.querySelectorAll("[data-cost]")) {
    const hours = (Date.now() + skew - Date.parse(e.dataset.at)) / 3_600_000;
    const text = money(Number(e.dataset.cost) + Math.max(0, hours) * Number(e.dataset.rate));
    if (e.textContent !== text) e.textContent = text;
  }
}

function late() {
  for (const e of document.querySelectorAll("[data-late]")) e.hidden = Date.parse(e.dataset.late) > Date.now() + skew;
}

const state = () => document.getElementById("page-title")?.textContent ?? "";
const suffix = document.title.slice(state().length);

function title() {
  if (state()) document.title = state() + suffix;
}

// What a person opened, scrolled or focused stays so when a fragment is replaced.
const unfolded = new Set();
const name = (details) => details.querySelector("summary")?.textContent;
let focused = "";
let scrolled = 0;

document.addEventListener("toggle", (e) => {
  if (e.target.matches?.("details")) unfolded[e.target.open ? "add" : "delete"](name(e.target));
}, true);
document.addEventListener("htmx:oobBeforeSwap", (e) => {
  const old = e.detail.target;
  focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  scrolled = old.querySelector(".tl")?.scrollTop ?? 0;
});
document.addEventListener("htmx:oobAfterSwap", (e) => {
  const fresh = document.getElementById(e.detail.target.id);
  if (focused) document.getElementById(focused)?.focus();
  if (scrolled && fresh?.querySelector(".tl")) fresh.querySelector(".tl").scrollTop = scrolled;
  for (const d of fresh?.querySelectorAll("details") ?? []) d.open ||= unfolded.has(name(d));
});
document.addEventListener("submit", (e) => {
  if (e.target.id === "stop-form") document.getElementById("stop-dialog").hidePopover?.();
});

document.addEventListener("htmx:wsAfterMessage", () => {
  title();
  grow();
});
document.addEventListener("htmx:afterRequest", title);
grow();
setInterval(() => { grow(); late(); }, 1000);
