// The register and the list of documents: rows are made of the data in the page as text, a page of them at a time.
// What is chosen stands in the fragment of the address, so that a view can be passed on as a link.
"use strict";
(() => {
  const ROWS = 50;
  const PRINTED_ROWS = 1000;
  const SEVERITIES = ["critical", "high", "medium", "low"];
  const STATUSES = ["failed", "partial", "done"];

  const data = JSON.parse(document.getElementById("data").textContent);
  const documents = data.documents.map(
    ([path, url, status, pages, covered, missing, coverage, reason, remark, type, summary, counts, change, recovered, fields]) =>
      ({ path, url, status, pages, covered, missing, coverage, reason, remark, type, summary, counts, change, recovered, fields }));
  const risks = data.risks.map(
    ([place, number, severity, page, title, category, quote, check, change, ownCheck, explanation, recommendation]) =>
      ({ document: documents[place], number, severity, page, title, category, quote, check, change, ownCheck, explanation, recommendation }));

  // --- elements

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children); // texts become text nodes, never markup
    return element;
  }

  function drawn(tag, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const badge = (word, text = word) => make("span", { class: `badge ${word}` }, text);

  function link(target, url) {
    const slash = target.path.lastIndexOf("/") + 1;
    const folder = slash ? [make("span", { class: "folder" }, target.path.slice(0, slash)), make("wbr", {})] : [];
    return make("a", { href: url }, ...folder, make("span", {}, target.path.slice(slash)));
  }

  function riskRow(risk) {
    const url = `${risk.document.url}#risk-${risk.number}`;
    const text = [make("div", { class: "title", dir: "auto" }, make("a", { href: url }, risk.title))];
    if (risk.quote) text.push(make("blockquote", { dir: "auto" }, risk.quote));
    if (risk.explanation || risk.recommendation) {
      text.push(make("details", {}, make("summary", {}, "Why, and what to do"),
        make("p", { dir: "auto" }, risk.explanation), make("p", { dir: "auto" }, risk.recommendation)));
    }
    const [check, words] = risk.check < 0 ? ["unchecked", "Not checked"] : data.checks[risk.check];
    const marks = [badge(risk.severity), ...(risk.change ? [" ", badge(risk.change)] : [])];
    return make("tr", {},
      make("td", {}, ...marks),
      make("td", {}, ...text),
      make("td", { dir: "auto", "data-label": "Category" }, risk.category),
      make("td", {}, link(risk.document, url)),
      make("td", { "data-label": "Page" }, risk.page ? String(risk.page) : "unknown"),
      make("td", risk.quote ? { class: `check ${check}` } : {}, risk.quote ? words : "",
        ...(risk.ownCheck ? [make("div", { class: "soft" }, "Seen by docpipe itself")] : [])));
  }

  function strip(target) {
    const read = drawn("rect", { class: "read", width: target.pages, height: 10 });
    const gaps = target.missing.map(([first, last]) =>
      drawn("rect", { class: "missing", x: first - 1, width: last - first + 1, height: 10 }));
    return drawn("svg", { class: "strip", viewBox: `0 0 ${target.pages} 10`, preserveAspectRatio: "none", "aria-hidden": "true" },
      read, ...gaps);
  }

  function documentRow(target) {
    const text = [make("div", { class: "title" }, link(target, target.url))];
    if (target.type) text.push(make("div", { class: "soft small", dir: "auto" }, target.type));
    for (const words of [target.reason, target.remark]) {
      if (words) text.push(make("p", { class: "small" }, words));
    }
    if (target.summary) text.push(make("details", {}, make("summary", {}, "Summary"), make("p", { dir: "auto" }, target.summary)));
    const found = SEVERITIES.filter((severity) => target.counts[severity])
      .flatMap((severity) => [badge(severity, `${target.counts[severity]} ${severity}`), " "]);
    const marks = [badge(target.status), ...(target.change ? [" ", badge(target.change)] : [])];
    return make("tr", {},
      make("td", {}, ...marks),
      make("td", {}, ...text),
      make("td", {}, target.coverage, ...(target.pages ? [strip(target)] : [])),
      make("td", {}, ...(found.length ? found : [make("span", { class: "soft" }, target.covered ? "None found" : "Nothing read")])),
      ...target.fields.map(([text], place) => make("td", { dir: "auto", "data-label": data.fields[place] }, text)));
  }

  // --- lists

  const collator = new Intl.Collator(undefined, { numeric: true });
  const byText = (a, b) => (a === b ? 0 : collator.compare(a, b));
  const tooFar = (page) => page || Infinity; // a page that is not known comes last
  const byNumber = (a, b) => (a === b ? 0 : a - b);

  // Every word of the search stands somewhere in the row's texts.
  function searcher(texts) {
    const known = new Map();
    return (row, words) => {
      if (!known.has(row)) known.set(row, texts(row).join("\n").toLowerCase());
      return words.every((word) => known.get(row).includes(word));
    };
  }

  class List {
    // sorts: by key, a comparison of two rows. matches: whether a row fits the choices, a Map of lists by name.
    constructor({ root, prefix, noun, rows, sorts, sort, matches, row }) {
      Object.assign(this, { root, prefix, noun, rows, sorts, usual: sort, matches, row, size: ROWS });
      this.form = root.querySelector("form");
      this.status = root.querySelector("[role=status]");
      this.body = root.querySelector("tbody");
      this.steps = [...root.querySelectorAll("[data-step]")];
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("input", () => this.choose({ page: 0 }));
      this.form.addEventListener("reset", (event) => {
        event.preventDefault();
        this.read(new URLSearchParams());
        this.choose({ page: 0 });
      });
      for (const button of root.querySelectorAll("[data-sort]")) {
        button.addEventListener("click", () => {
          const key = button.dataset.sort;
          const first = (button.dataset.first ?? "") + key; // numbers that matter: the highest first
          const other = first === key ? `-${key}` : key;
          this.choose({ sort: this.sort === first ? other : first, page: 0 });
        });
      }
      for (const button of this.steps) {
        button.addEventListener("click", () => {
          this.choose({ page: this.page + Number(button.dataset.step) });
          root.scrollIntoView();
        });
      }
    }

    // Take over what the fragment says; values that are no choice here are left out.
    read(fragment) {
      const value = (name) => fragment.get(this.prefix + name);
      this.sort = Object.hasOwn(this.sorts, (value("sort") ?? "").replace("-", "")) ? value("sort") : this.usual;
      this.page = Math.max(0, (Number.parseInt(value("page") ?? "1", 10) || 1) - 1);
      for (const field of this.form.elements) {
        if (!field.name) continue;
        const given = fragment.get(field.name) ?? "";
        if (field.type === "checkbox") field.checked = given.split(",").includes(field.value);
        else field.value = given;
        if (field.selectedIndex === -1) field.value = "";
      }
    }

    choices() {
      const chosen = new Map();
      for (const [name, value] of new FormData(this.form)) {
        if (value) chosen.set(name, [...(chosen.get(name) ?? []), value]);
      }
      return chosen;
    }

    // What to write to the fragment: nothing for what is as usual.
    fragment() {
      const entries = [...this.choices()].map(([name, values]) => [name, values.join(",")]);
      if (this.sort !== this.usual) entries.push([`${this.prefix}sort`, this.sort]);
      if (this.page) entries.push([`${this.prefix}page`, String(this.page + 1)]);
      return entries;
    }

    choose(change) {
      Object.assign(this, change);
      this.show();
      remember();
    }

    show() {
      const chosen = this.choices();
      const words = (chosen.get(`${this.prefix}q`) ?? [""])[0].toLowerCase().split(/\s+/).filter(Boolean);
      const found = this.rows.filter((row) => this.matches(row, chosen, words));
      const key = this.sort.replace("-", "");
      const direction = this.sort.startsWith("-") ? -1 : 1;
      found.sort((a, b) => direction * this.sorts[key](a, b) || a.place - b.place);
      this.page = Math.min(this.page, Math.max(0, Math.ceil(found.length / this.size) - 1));
      const first = this.page * this.size;
      const shown = found.slice(first, first + this.size);
      this.body.replaceChildren(...shown.map(this.row));
      this.tell(found.length, first, shown.length, key, direction);
    }

    tell(found, first, shown, key, direction) {
      const number = (n) => n.toLocaleString("en");
      const range = shown < found ? `${number(first + 1)} to ${number(first + shown)} of ` : "";
      const all = found < this.rows.length ? ` (of ${number(this.rows.length)})` : "";
      const rest = this.size === PRINTED_ROWS && shown < found ? `. ${number(found - shown)} are not printed: choose fewer` : "";
      this.status.textContent = found ? `${range}${number(found)} ${this.noun}${found === 1 ? "" : "s"}${all}${rest}` : `No ${this.noun} fits`;
      for (const button of this.root.querySelectorAll("[data-sort]")) {
        const order = button.dataset.sort === key ? (direction > 0 ? "ascending" : "descending") : "none";
        button.parentElement.setAttribute("aria-sort", order);
      }
      this.steps[0].disabled = first === 0;
      this.steps[1].disabled = first + shown >= found;
      this.steps[0].parentElement.hidden = found <= this.size;
    }
  }

  const lists = [];

  function remember() {
    const fragment = new URLSearchParams(lists.flatMap((list) => list.fragment())).toString();
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  }

  function recall() {
    const text = location.hash.slice(1);
    const fragment = new URLSearchParams(text.includes("=") ? text : "");
    for (const list of lists) {
      list.read(fragment);
      list.show();
    }
    const list = lists.find((one) => one.fragment().length);
    if (list) list.root.scrollIntoView();
  }

  function fits(chosen, name, value) {
    return !chosen.has(name) || chosen.get(name).includes(value);
  }

  risks.forEach((risk, place) => { risk.place = place; });
  documents.forEach((target, place) => { target.place = place; });

  const register = document.getElementById("register");
  if (register) {
    const named = register.querySelector("[name=document]");
    const holding = new Set(risks.map((risk) => risk.document));
    named.append(...documents.filter((target) => holding.has(target)).map((target) => make("option", {}, target.path)));
    const checkOf = (risk) => (risk.check < 0 ? "unchecked" : data.checks[risk.check][0]);
    const has = searcher((risk) => [risk.title, risk.category, risk.quote, risk.document.path, risk.explanation, risk.recommendation]);
    const bySeverity = (a, b) => SEVERITIES.indexOf(b.severity) - SEVERITIES.indexOf(a.severity);
    lists.push(new List({
      root: register, prefix: "", noun: "risk", rows: risks, sort: "-severity", row: riskRow,
      sorts: {
        severity: bySeverity,
        title: (a, b) => byText(a.title, b.title),
        category: (a, b) => byText(a.category, b.category),
        document: (a, b) => byText(a.document.path, b.document.path),
        page: (a, b) => byNumber(tooFar(a.page), tooFar(b.page)),
        check: (a, b) => byNumber(a.check, b.check) || bySeverity(b, a),
      },
      matches: (risk, chosen, words) =>
        fits(chosen, "severity", risk.severity) && fits(chosen, "category", risk.category) &&
        fits(chosen, "document", risk.document.path) && fits(chosen, "check", checkOf(risk)) &&
        (fits(chosen, "news", risk.change) || (chosen.get("news")[0] === "any" && risk.change !== "")) &&
        (words.length === 0 || has(risk, words)),
    }));
    document.getElementById("worst").remove();
    register.hidden = false;
  }

  const list = document.getElementById("list");
  if (list) {
    const has = searcher((target) => [target.path, target.type, target.summary, target.reason, target.remark, ...target.fields.map(([text]) => text)]);
    const byField = (place) => (a, b) => {
      const [x, y] = [a.fields[place][1], b.fields[place][1]];
      return typeof x === "number" && typeof y === "number" ? x - y : byText(String(x), String(y));
    };
    const weight = (target) => SEVERITIES.reduce((sum, severity) => sum * 10000 + (target.counts[severity] ?? 0), 0);
    const missing = (target) => (target.pages ? target.pages - target.covered : Infinity);
    lists.push(new List({
      root: list, prefix: "d-", noun: "document", rows: documents, sort: "document", row: documentRow,
      sorts: {
        status: (a, b) => STATUSES.indexOf(a.status) - STATUSES.indexOf(b.status),
        document: (a, b) => byText(a.path, b.path),
        missing: (a, b) => byNumber(missing(a), missing(b)),
        risks: (a, b) => weight(a) - weight(b),
        ...Object.fromEntries(data.fields.map((_, place) => [`field${place + 1}`, byField(place)])),
      },
      matches: (target, chosen, words) => fits(chosen, "d-status", target.status) && (words.length === 0 || has(target, words)),
    }));
    document.getElementById("documents-without-scripts").remove();
    list.hidden = false;
  }

  addEventListener("hashchange", recall);
  addEventListener("beforeprint", () => {
    for (const one of lists) {
      Object.assign(one, { size: PRINTED_ROWS, before: one.page, page: 0 });
      one.show();
      for (const details of one.root.querySelectorAll("details")) details.open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const one of lists) {
      Object.assign(one, { size: ROWS, page: one.before });
      one.show();
    }
  });
  recall();
})();
