// Light or dark, where somebody has chosen one: before anything is drawn. Without a choice it is as the system has it.
const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
