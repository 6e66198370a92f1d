// Asks for a name where people have accounts of their own.
const named = document.getElementById("named");
const answer = await fetch("login/names");
if (answer.ok && await answer.json()) {
  named.hidden = false;
  named.querySelector("input").required = true;
  named.querySelector("input").focus();
}
