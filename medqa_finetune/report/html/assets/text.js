// How a text of a model is shown: hidden characters by their number, and, if wanted, what ROUGE-L counts of it.

// Controls, zero-width and direction-changing characters, tags, halves of characters: what could hide, or turn a line.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\ud800-\udfff]/u;
const BLANK = /\s/u;
const LONGEST_COMPARED = 700;

// Places in `answer` of a longest common subsequence with `reference`, both arrays of characters without blanks.
function commonPlaces(answer, reference) {
  const width = reference.length + 1;
  const table = new Uint16Array((answer.length + 1) * width);
  for (let i = answer.length - 1; i >= 0; i--) {
    for (let j = reference.length - 1; j >= 0; j--) {
      table[i * width + j] = answer[i] === reference[j]
        ? table[(i + 1) * width + j + 1] + 1
        : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  const places = new Set();
  for (let i = 0, j = 0; i < answer.length && j < reference.length;) {
    if (answer[i] === reference[j]) { places.add(i); i++; j++; }
    else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++;
    else j++;
  }
  return places;
}

function countedIn(text, reference) {
  const answer = [...text].filter((character) => !BLANK.test(character));
  const wanted = [...reference].filter((character) => !BLANK.test(character));
  return Math.max(answer.length, wanted.length) > LONGEST_COMPARED ? new Set() : commonPlaces(answer, wanted);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function hiddenCharacter(character) {
  const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return element("span", "hidden-character", `U+${code}`);
}

// A box with the text; `reference` marks what both share.
function textBox(text, reference) {
  const box = element("div", "text");
  box.dir = "auto";
  if (text === null || text.trim() === "") {
    box.append(element("span", "nothing", words(text === null ? "no_answer" : "empty")));
    return box;
  }
  const counted = reference ? countedIn(text, reference) : null;
  let place = 0;
  let run = "";
  let marked = false;
  const flush = () => {
    if (run) box.append(marked ? element("mark", "", run) : run);
    run = "";
  };
  for (const character of text) {
    const counts = Boolean(counted) && !BLANK.test(character) && counted.has(place);
    if (!BLANK.test(character)) place++;
    if (counts !== marked || HIDDEN.test(character)) flush();
    marked = counts;
    if (HIDDEN.test(character)) box.append(hiddenCharacter(character));
    else run += character;
  }
  flush();
  return box;
}
