// The startup script is counted while it is typed, in characters as the server counts them.

function count(area) {
  const out = document.getElementById("script-count");
  const length = [...area.value].length;
  const most = Number(area.dataset.count);
  out.textContent = length ? `${length} of ${most} characters` : "";
  out.classList.toggle("error", length > most);
}

document.addEventListener("input", (e) => e.target.matches?.("[data-count]") && count(e.target));
document.querySelectorAll("[data-count]").forEach(count);
