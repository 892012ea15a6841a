// The one socket of a page: is it alive, what to say about it, and what to do without it.

const SILENT = 75_000; // the server speaks at least each 30 s
const SLOW = 15_000; // for a connection to open; also how often a page asks without one
const AGAIN = [1006, 1011, 1012, 1013]; // after these htmx connects again by itself
const SIGNED_OUT = 4401;
const NOT_OURS = 4404; // any more: other rights need another socket
const element = document.querySelector("[ws-connect]");
const pill = document.getElementById("connection");
const SAYS = {
  connecting: ["connecting", "", "Not yet connected"],
  live: ["live", "ok", "Changes appear by themselves"],
  lost: ["reconnecting", "warn", "What you see may be old; trying again"],
  asking: ["slow updates", "warn", "No live connection: this page asks every 15 seconds"],
  offline: ["offline", "bad", "gpubroker does not answer: what you see is old"],
  out: ["signed out", "bad", "Load the page again to sign in"],
};
let socket; // the browser's own
let wrapper; // what htmx makes of it
let state = "";
let heard = Date.now(); // when it was last alive, or began to connect
let asked = Date.now();

function say(next) {
  if (!pill || state === next) return;
  state = next;
  const [text, colour, title] = SAYS[next];
  pill.hidden = false;
  pill.className = `pill ${colour}`;
  pill.title = title;
  pill.textContent = text;
}

const worse = () => (["asking", "offline"].includes(state) ? undefined : say("lost"));

function connect() {
  if (wrapper) wrapper.reconnect();
  else socket?.close(); // htmx tries again
}

function watch() {
  if (state === "out" || !element) return;
  const silence = Date.now() - heard;
  const open = socket?.readyState === WebSocket.OPEN;
  if (open && silence > SILENT) {
    say("lost"); // half open: nobody says so
    connect();
  } else if (socket?.readyState === WebSocket.CONNECTING && silence > SLOW) socket.close();
  if (!open && !document.hidden && Date.now() - asked > SLOW) ask();
}

function ask() {
  asked = Date.now();
  htmx.ajax("GET", element.dataset.live, { swap: "none", source: element });
}

if (window.htmx)
  htmx.createWebSocket = (url) => {
    heard = Date.now();
    if (socket) {
      socket.onclose = null; // of a dead one nothing is heard any more, or much later
      socket.close(); // htmx plans tries of its own: there may be one that still connects
    }
    return (socket = new WebSocket(url, []));
  };

document.addEventListener("htmx:wsOpen", (e) => {
  wrapper = e.detail.socketWrapper;
  heard = Date.now();
  say("live");
});
document.addEventListener("htmx:wsAfterMessage", () => (heard = Date.now()));
document.addEventListener("htmx:wsError", worse);
document.addEventListener("htmx:wsClose", (e) => {
  const code = e.detail.event?.code;
  wrapper ??= e.detail.socketWrapper;
  if ([SIGNED_OUT, NOT_OURS].includes(code) && element.closest("main")) return location.reload();
  if (code === SIGNED_OUT) return say("out"); // a half-written form stays
  worse();
  if (!AGAIN.includes(code)) setTimeout(connect, 1000 + Math.random() * 4000);
});
document.addEventListener("htmx:afterRequest", (e) => {
  const { elt, xhr, successful } = e.detail;
  if (elt !== element || socket?.readyState === WebSocket.OPEN) return;
  if (element.closest("main") && xhr.status === 404) location.reload();
  if (new URL(xhr.responseURL || location).pathname.startsWith("/login/")) return say("out");
  say(successful ? "asking" : "offline");
});
addEventListener("offline", () => element && say("offline"));
addEventListener("online", () => element && connect());
document.addEventListener("visibilitychange", watch);
setInterval(watch, 5000);
element?.setAttribute("hx-request", '{"timeout":10000}');
if (element) say("connecting");
