// Pages of sessions: money that grows, the window's title, and what to do when the socket is silent.

const SILENT = 75_000; // the server speaks at least each 30 s
const POLL = 15_000; // without a socket, the page asks
const page = document.querySelector("[data-live]");
const skew = Date.parse(document.body.dataset.now) - Date.now() || 0;
let open = false;
let heard = Date.now();
let asked = Date.now();

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

const state = () => document.getElementById("page-title")?.textContent ?? "";
const suffix = document.title.slice(state().length);

function title() {
  if (state()) document.title = state() + suffix;
}

function watch() {
  const silence = Date.now() - heard;
  if (document.hidden) return;
  if (open && silence > SILENT) location.reload(); // a half-open connection never says so
  if (open || !page?.dataset.live || Date.now() - asked < POLL) return;
  asked = Date.now();
  htmx.ajax("GET", page.dataset.live, { swap: "none", source: page });
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

document.addEventListener("htmx:wsOpen", () => {
  open = true;
  heard = Date.now();
});
document.addEventListener("htmx:wsClose", (e) => {
  open = false;
  if ([4401, 4404].includes(e.detail.event?.code)) location.reload(); // signed out, or not ours any more
});
document.addEventListener("htmx:wsAfterMessage", () => {
  heard = Date.now();
  title();
  grow();
});
document.addEventListener("htmx:afterRequest", title);
grow();
setInterval(grow, 1000);
setInterval(watch, 5000);
