// Loads the app; where that fails, says so in the page instead of leaving it loading for ever.
import init from "./{{GLUE}}";

init({ module_or_path: new URL("./{{WASM}}", import.meta.url) }).catch((error) => {
  const line = document.getElementById("boot");
  if (line) line.textContent = `The dashboard could not start (${error}). Reload the page, or use “mesh stat” on the command line.`;
});
