// What the last word of the search may go on as: qualifiers, and the values of those that have some.
export function complete(field) {
  const list = document.getElementById(field?.dataset.completions);
  if (!list) return;
  const values = JSON.parse(list.dataset.values);
  field.setAttribute("list", list.id);
  const offer = () => {
    const [, before, word] = /^(.*?)(\S*)$/s.exec(field.value);
    const [name, value] = word.split(/:(.*)/s);
    const found = value === undefined
      ? Object.keys(values).filter((each) => each.startsWith(word)).map((each) => `${each}:`)
      : (values[name] ?? []).filter((each) => each.startsWith(value) && each !== value).map((each) => `${name}:${each}`);
    list.replaceChildren(...found.slice(0, 12).map((each) => new Option("", before + each)));
  };
  field.addEventListener("input", offer);
  field.addEventListener("focus", offer);
}
