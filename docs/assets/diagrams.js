// Draws the blocks fenced as `mermaid`, in the colours of the page and again when they change.
// The library is loaded from this site and only by pages that have a diagram. If it cannot be
// loaded, or JavaScript is off, the source of the diagram stays readable as text.
(() => {
  const library = new URL("vendor/mermaid.tiny.js", document.currentScript.src);

  const load = () =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = library.href;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });

  const colours = {
    light: {
      background: "#ffffff",
      primaryColor: "#e8eaf6",
      primaryTextColor: "#22263a",
      primaryBorderColor: "#3f51b5",
      lineColor: "#5f6580",
      tertiaryColor: "#f6f7fc",
      tertiaryBorderColor: "#b6bbd6",
      edgeLabelBackground: "#ffffff",
      noteBkgColor: "#fff4d6",
      noteBorderColor: "#c9a227",
      noteTextColor: "#22263a",
      critBkgColor: "#f6c7c0",
      critBorderColor: "#b3261e",
      activeTaskBkgColor: "#c5e8cf",
      activeTaskBorderColor: "#2e7d46",
      taskTextDarkColor: "#22263a",
      taskTextOutsideColor: "#22263a",
      sectionBkgColor: "#f6f7fc",
      titleColor: "#22263a",
      gridColor: "#c9cce0",
    },
    dark: {
      darkMode: true,
      background: "#1e2129",
      primaryColor: "#2c3152",
      primaryTextColor: "#e2e4ef",
      primaryBorderColor: "#8c9aea",
      lineColor: "#a6abc4",
      tertiaryColor: "#252836",
      tertiaryBorderColor: "#4a4f6a",
      edgeLabelBackground: "#1e2129",
      noteBkgColor: "#4a4222",
      noteBorderColor: "#c9a227",
      noteTextColor: "#e2e4ef",
      critBkgColor: "#6b2a26",
      critBorderColor: "#e57368",
      activeTaskBkgColor: "#1f5234",
      activeTaskBorderColor: "#6cc58a",
      taskTextDarkColor: "#e2e4ef",
      taskTextOutsideColor: "#e2e4ef",
      sectionBkgColor: "#252836",
      titleColor: "#e2e4ef",
      gridColor: "#4a4f6a",
    },
  };

  // Drawn at the size of the text. A diagram that is wider than the page is shrunk to three
  // quarters at most, so that a phone scrolls it rather than showing it too small to read.
  const size = { useMaxWidth: false };
  const smallest = 0.75;

  const draw = async (diagrams) => {
    const dark = document.body.dataset.mdColorScheme === "slate";
    const fontFamily = getComputedStyle(document.body).fontFamily;
    mermaid.initialize({
      startOnLoad: false,
      theme: "base",
      themeVariables: { ...colours[dark ? "dark" : "light"], fontFamily, fontSize: "14px" },
      fontFamily,
      flowchart: { ...size, nodeSpacing: 24, rankSpacing: 36, padding: 8, wrappingWidth: 130 },
      gantt: { ...size, useWidth: 480, barHeight: 26, fontSize: 13, leftPadding: 20, rightPadding: 20 },
      sequence: {
        ...size,
        actorFontSize: 14,
        actorMargin: 12,
        height: 36,
        messageFontSize: 14,
        mirrorActors: false,
        noteFontSize: 14,
        width: 84,
      },
      state: size,
    });
    for (const [index, { figure, source }] of diagrams.entries()) {
      const { svg } = await mermaid.render(`diagram-${index}`, source);
      figure.innerHTML = svg;
      const drawing = figure.firstElementChild;
      drawing.style.minWidth = `${smallest * drawing.viewBox.baseVal.width}px`;
    }
  };

  document.addEventListener("DOMContentLoaded", async () => {
    const blocks = [...document.querySelectorAll("pre.diagram")];
    if (blocks.length === 0) return;
    await load();
    const diagrams = blocks.map((block) => {
      const figure = document.createElement("div");
      figure.className = "diagram";
      figure.tabIndex = 0; // so that a wide one can be scrolled with the keyboard
      block.replaceWith(figure);
      return { figure, source: block.textContent };
    });
    await draw(diagrams);
    new MutationObserver(() => draw(diagrams)).observe(document.body, {
      attributeFilter: ["data-md-color-scheme"],
    });
  });
})();
