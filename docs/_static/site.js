// A browser reads no other files for a page that is a file itself, so a search there has no extracts.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Sphinx looks for an anchor such as #hussh.Connection with a selector, in which a dot means more.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const toText = Search.htmlToText;
  Search.htmlToText = (html, anchor) =>
    toText(html, anchor ? `#${CSS.escape(anchor.replace(/^#/, ""))}` : anchor);
});
