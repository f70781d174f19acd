const shown = document.getElementById("now");
new EventSource("/api/events").addEventListener("now", (event) => {
  shown.textContent = JSON.stringify(JSON.parse(event.data), null, 1);
});
