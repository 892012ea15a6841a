// Small conveniences. Every page works without them, except that it does not update itself.

const skew = Date.parse(document.body.dataset.now) - Date.now() || 0;
const now = () => Date.now() + skew;
document.documentElement.classList.add("js");

// ---- times: the server writes UTC, people read their own clock

function span(milliseconds) {
  const s = Math.max(0, Math.floor(milliseconds / 1000));
  if (s < 60) return `${s} s`;
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  if (m < 60) return m < 10 ? `${m} min ${s % 60} s` : `${m} min`;
  if (h < 24) return `${h} h ${m % 60} min`;
  return `${d} d ${h % 24} h`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

function localTime(element) {
  const at = new Date(element.dateTime);
  if (isNaN(at)) return;
  const today = at.toDateString() === new Date().toDateString();
  const time = ("seconds" in element.dataset ? exact : clock).format(at);
  const text = today ? time : `${day.format(at)}, ${time}`;
  if (element.textContent !== text) element.textContent = text;
  element.title = `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  for (const e of document.querySelectorAll("[data-since]")) {
    const at = Date.parse(e.dataset.since);
    if (at) set(e, span(now() - at));
  }
  for (const e of document.querySelectorAll("[data-until]")) {
    const at = Date.parse(e.dataset.until);
    if (at) set(e, at > now() ? span(at - now()) : e.dataset.over || "now");
  }
}

function arrived(root) {
  root.querySelectorAll?.("time[datetime]").forEach(localTime);
  root.querySelectorAll?.("[data-narrows]").forEach(narrow);
  tick();
}

// ---- toasts

const toasts = document.getElementById("toasts");

function toast(text, level = "info") {
  const said = [...toasts.querySelectorAll(".toast:not(.gone) > span")];
  if (said.some((span) => span.textContent === text)) return;
  const box = document.createElement("div");
  box.className = `toast ${level}`;
  box.append(Object.assign(document.createElement("span"), { textContent: text }));
  toasts.append(box);
  fade(box);
}

// None moves while it is read: a new one takes the place of the older word on its session, or of one that went.
function fade(box) {
  const before = [...toasts.querySelectorAll(".toast:has(button)")]; // those that came here before
  const older = before.find((old) => box.dataset.about && old.dataset.about === box.dataset.about);
  (older ?? before.find((old) => old.matches(".gone")))?.replaceWith(box);
  const close = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => go(box));
  box.append(close);
  if (!box.matches(".error, .warning")) setTimeout(leave, 7000, box);
}

function leave(box) {
  if (box.matches(":focus-within")) setTimeout(leave, 2000, box); // somebody is about to use it
  else go(box);
}

function go(box) {
  box.classList.add("gone");
  for (const last of toasts.querySelectorAll(".gone:not(:has(~ .toast:not(.gone)))")) last.remove();
}

// ---- copying

async function copy(button) {
  const text = button.dataset.copy || document.querySelector(button.dataset.copyFrom)?.textContent.trim() || "";
  const done = navigator.clipboard ? await navigator.clipboard.writeText(text).then(() => true, () => false) : copyByHand(text);
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done ? "Copied" : "Select and copy";
  const heard = Object.assign(document.createElement("span"), { className: "sr", textContent: button.textContent });
  toasts.append(heard);
  setTimeout(() => {
    button.textContent = label;
    heard.remove();
  }, 1600);
}

function copyByHand(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text, className: "sr" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy"); // plain http has no clipboard API
  area.remove();
  return done;
}

// ---- narrowing a list by typing

function narrow(input) {
  const wanted = input.value.trim().toLowerCase().replaceAll(" ", "");
  for (const row of document.getElementById(input.dataset.narrows)?.children ?? [])
    row.hidden = !row.textContent.toLowerCase().replaceAll(" ", "").includes(wanted);
}

// ---- wiring

if (window.htmx)
  htmx.config.wsReconnectDelay = (tries) => Math.random() * Math.min(5000, 300 * 2 ** tries);

document.addEventListener("click", (e) => {
  const button = e.target.closest?.("[data-copy], [data-copy-from]");
  if (button) copy(button);
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(e.target)) menu.open = false;
});
document.addEventListener("keydown", (e) => {
  if (e.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  }
});
for (const name of ["input", "change"])
  document.addEventListener(name, (e) => {
    if (!e.target.matches?.("[data-narrows]")) return;
    e.stopPropagation(); // it is no filter of the form
    narrow(e.target);
  }, true);
document.addEventListener("submit", (e) => {
  const button = e.submitter ?? e.target.querySelector("[data-once]");
  if (!button?.dataset.once) return;
  button.textContent = button.dataset.once;
  setTimeout(() => (button.disabled = true)); // after the form was read
});
addEventListener("pageshow", (e) => e.persisted && location.reload()); // never a stale page on "back"

const byItself = (e) => e.detail.elt?.matches("[ws-connect]"); // socket.js says how that went
document.addEventListener("htmx:responseError", (e) => {
  if (byItself(e)) return;
  const { status } = e.detail.xhr;
  const again = Number(e.detail.xhr.getResponseHeader("Retry-After"));
  const why = {
    403: "Not allowed. Load the page again if you signed in anew meanwhile.",
    404: "This is not here any more, or not for you. Load the page again.",
    429: again ? `Too often. It is possible again in ${span(again * 1000)}.` : "Too often. Wait a little.",
  };
  toast(why[status] ?? `That did not work (${status}). Load the page again to see how things are.`, "error");
});
for (const name of ["htmx:sendError", "htmx:timeout"])
  document.addEventListener(name, (e) => {
    if (byItself(e)) return;
    const asked = e.detail.requestConfig?.verb !== "get";
    const then = asked ? "Look whether it was done before you ask again." : "Trying again may help.";
    toast(`gpubroker does not answer. ${then}`, "error");
  });
document.addEventListener("toast", (e) => toast(e.detail.text ?? e.detail.value, e.detail.level));

const words = (node) => node.textContent.replaceAll(/\s+/g, " ").trim();

// An older fragment never replaces a newer one (pages and sockets race).
document.addEventListener("htmx:oobBeforeSwap", (e) => {
  const old = Number(e.detail.target?.dataset?.v);
  const fresh = Number(e.detail.fragment?.firstElementChild?.dataset?.v ?? e.detail.fragment?.dataset?.v);
  if (old && fresh && fresh < old) e.detail.shouldSwap = false;
  // What says the same stays: an alert would be read out again.
  if (e.detail.target.id === "alarm" && words(e.detail.target) === words(e.detail.fragment)) e.detail.shouldSwap = false;
});

// Whoever is on something stays there when its fragment is replaced, and sees what they saw.
let focused = null; // how to find it again: what has no id by its place among its kind
document.addEventListener("htmx:oobBeforeSwap", (e) => {
  const [here, old] = [document.activeElement, e.detail.target];
  const place = () => [...old.querySelectorAll(here.tagName)].indexOf(here);
  focused = old.contains(here) ? { id: here.id, tag: here.tagName, place: place() } : null;
});
document.addEventListener("htmx:oobAfterSwap", (e) => {
  if (!focused) return;
  const fresh = document.getElementById(e.detail.target.id);
  const next = focused.id ? document.getElementById(focused.id) : fresh?.querySelectorAll(focused.tag)[focused.place];
  (next ?? fresh?.querySelector("a"))?.focus({ preventScroll: true });
});

// A press counts although its button was replaced before it was let go: browsers forget it.
let pressed = null;
const control = (e) => e.target.closest?.("a, button, summary, input") ?? null;
const alike = (a, b) => a.tagName === b.tagName && a.id === b.id && (a.id || words(a) === words(b));
const presses = (e) => (e.type.startsWith("key") ? e.key === " " : e.button === 0);
for (const name of ["mousedown", "keydown"])
  document.addEventListener(name, (e) => presses(e) && !e.repeat && (pressed = control(e)), true);
for (const name of ["mouseup", "keyup"])
  document.addEventListener(name, (e) => {
    if (!presses(e)) return;
    const now = control(e);
    if (pressed && now && !pressed.isConnected && alike(now, pressed)) now.click();
    pressed = null;
  }, true);

// Scroll positions of lists and open details survive a swap.
const kept = new Map();
document.addEventListener("htmx:beforeSwap", () => {
  for (const e of document.querySelectorAll(".list[id]")) kept.set(e.id, e.scrollTop);
  for (const e of document.querySelectorAll("input[data-narrows]")) kept.set(e.id, e.value);
});
for (const name of ["htmx:afterSettle", "htmx:oobAfterSwap", "htmx:wsAfterMessage"])
  document.addEventListener(name, (e) => {
    for (const [id, value] of kept) {
      if (!value) continue; // even setting nothing would lay the whole page out
      const element = document.getElementById(id);
      if (element?.matches("input")) element.value = value;
      else if (element) element.scrollTop = value;
    }
    arrived(e.target.isConnected ? e.target : document);
    toasts?.querySelectorAll(".toast:not(:has(button))").forEach(fade);
  });

toasts?.querySelectorAll(".toast").forEach(fade);
arrived(document);
setInterval(tick, 1000);
