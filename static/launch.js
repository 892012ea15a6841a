// The startup script is counted while it is typed, in characters as the server counts them; read
// out is only that it is too long. What the terms cost is read out when it changes, in a sentence.

function count(area) {
  const out = document.getElementById("script-count");
  const length = [...area.value].length;
  const most = Number(area.dataset.count);
  out.textContent = length ? `${length} of ${most} characters` : "";
  out.classList.toggle("error", length > most);
  out.ariaLive = length > most ? "polite" : "off";
}

const words = () => document.querySelector("#estimate .words")?.textContent.replaceAll(/\s+/g, " ").trim();
let told = words();

function tell() {
  const fresh = words();
  if (fresh && fresh !== told) document.getElementById("estimate-says").textContent = told = fresh;
}

document.addEventListener("input", (e) => e.target.matches?.("[data-count]") && count(e.target));
document.addEventListener("htmx:afterSettle", tell);
document.querySelectorAll("[data-count]").forEach(count);
