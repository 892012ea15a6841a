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

let told = state();

function title() {
  if (state()) document.title = state() + suffix;
  const says = document.getElementById("state-says");
  if (says && state() !== told) says.textContent = told = state(); // read out once for each change
}

const plain = (node) => node.textContent.replaceAll(/\s+/g, " ").trim();

const session = document.querySelector(".session");

// Whoever watched it start keeps the steps: on a phone, to fold them up would pull the page away.
if (!document.querySelector(".startup")) session?.classList.add("watched");

// News that nobody here asked for lies over the page until it is read, and what was read keeps its place.
const alarm = (node) => node?.querySelector(".alert");
const headline = (node) => alarm(node)?.querySelector("h2").textContent;
let asked = false;

function hold(notice) {
  const panel = document.querySelector("#session-connect .panel"); // its address may mean nothing any more
  session.style.setProperty("--connect", `${panel?.offsetHeight ?? 0}px`);
  session.style.setProperty("--notice", `${notice.offsetHeight}px`);
  session.classList.add("held");
  session.classList.toggle("warned", !!alarm(notice)); // it stands in the page
}

document.addEventListener("htmx:beforeRequest", (e) => {
  if (e.detail.elt.id !== "stop-form") return;
  asked = true;
  session.classList.remove("news", "held", "warned");
});
document.addEventListener("htmx:oobBeforeSwap", ({ detail: { target, fragment, shouldSwap } }) => {
  if (!shouldSwap || target.id !== "session-notice" || asked || headline(target) === headline(fragment)) return;
  if (!session.matches(".held")) hold(target);
  session.classList.toggle("news", !!alarm(fragment) && !session.matches(".warned"));
});
document.addEventListener("click", (e) => {
  if (e.target.id !== "notice-read") return;
  session.classList.remove("news", "held", "warned");
  alarm(session).focus({ preventScroll: true });
});

// What a person opened or scrolled stays so when a fragment is replaced.
const unfolded = new Set();
const name = (details) => details.querySelector("summary")?.textContent;
let scrolled = 0;

document.addEventListener("toggle", (e) => { // a question takes the focus, wherever its button went meanwhile
  if (e.newState === "open" && e.target.matches?.(".dialog"))
    e.target.querySelector("input:not([type=hidden]), select, button").focus();
}, true);
document.addEventListener("toggle", (e) => { // and gives it back to the button that stands there now
  if (e.newState !== "closed" || !e.target.matches?.(".dialog")) return;
  if (document.activeElement !== document.body && !e.target.contains(document.activeElement)) return;
  const openers = [...document.querySelectorAll(`[popovertarget="${e.target.id}"]`)];
  const opener = openers.find((button) => !e.target.contains(button));
  (opener ?? document.querySelector("#session-head a") ?? document.getElementById("main")).focus({ preventScroll: true });
}, true);
document.addEventListener("htmx:oobBeforeSwap", (e) => {
  const old = e.detail.target;
  if (old.id === "session-notice" && plain(old) === plain(e.detail.fragment)) e.detail.shouldSwap = false;
  for (const d of old.querySelectorAll("details")) unfolded[d.open ? "add" : "delete"](name(d));
  scrolled = old.querySelector(".tl")?.scrollTop ?? 0;
});
document.addEventListener("htmx:oobAfterSwap", (e) => {
  const fresh = document.getElementById(e.detail.target.id);
  if (scrolled && fresh?.querySelector(".tl")) fresh.querySelector(".tl").scrollTop = scrolled;
  for (const d of fresh?.querySelectorAll("details") ?? []) d.open ||= unfolded.has(name(d));
});
document.addEventListener("htmx:afterRequest", (e) => { // a question goes once it was answered, and stays if that failed
  const { elt, xhr } = e.detail;
  if (elt.id === "stop-form" && xhr.status >= 400) asked = false;
  if (["stop-form", "idle-form"].includes(elt.id) && xhr.status >= 200 && xhr.status < 300)
    document.getElementById(elt.id.replace("form", "dialog")).hidePopover?.();
});

document.addEventListener("htmx:wsAfterMessage", () => {
  title();
  grow();
});
document.addEventListener("htmx:afterRequest", title);
grow();
setInterval(() => { grow(); late(); }, 1000);

// ---- several sessions at once: what was picked stays picked when its row is replaced

const bulk = document.getElementById("bulk");
const all = document.getElementById("pick-all");
const picked = new Set();
const boxes = () => [...document.querySelectorAll("#session-list input[name=s]:enabled")];

// Rows come alike for all who see them; who may not stop everything picks among their own.
function own() {
  if (!bulk.dataset.own) return;
  for (const box of boxes()) {
    box.disabled = box.dataset.owner !== bulk.dataset.own;
    box.closest(".pick").classList.toggle("own", !box.disabled);
  }
}

function count() {
  const [here, on] = [boxes(), boxes().filter((box) => box.checked)];
  picked.clear();
  for (const box of on) picked.add(box.value);
  all.checked = here.length > 0 && on.length === here.length;
  all.indeterminate = on.length > 0 && !all.checked;
  bulk.hidden = here.length === 0;
  const words = on.length ? `${on.length} selected` : "";
  const label = document.getElementById("picked");
  if (label.textContent !== words) label.textContent = words;
  const button = document.getElementById("bulk-stop");
  button.disabled = on.length === 0;
  button.textContent = on.length ? `Stop ${on.length} selected` : "Stop selected";
}

function pick(e) {
  if (e.target === all) for (const box of boxes()) box.checked = all.checked;
  if (e.target === all || e.target.name === "s") count();
}

if (bulk) {
  all.closest("label").hidden = false;
  document.addEventListener("change", pick);
  document.addEventListener("htmx:oobAfterSwap", () => {
    own();
    for (const box of boxes()) box.checked = picked.has(box.value);
    count();
  });
  addEventListener("pageshow", count); // browsers bring back what was checked
  own();
  count();
}
