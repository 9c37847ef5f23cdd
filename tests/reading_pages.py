"""A report page as a reader of its HTML finds it."""

import html.parser
import json

VOID = {"meta", "link", "input", "br", "path", "circle", "rect"}


class Page(html.parser.HTMLParser):
    """A page's elements, with the text that stands in each."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.within = []  # of each element, the classes of those around it
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {[tag for tag, _ in self.open]}"

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.found.append(element)
        self.within.append([name for _, (_, a, _) in self.open for name in a.get("class", "").split()])
        if tag not in VOID:
            self.open.append((tag, element))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))
        self.within.append([])

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> within <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)
        for _, element in self.open:
            element[2].append(data)

    def all(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]

    def outside(self, tag, name):
        """The elements that neither have a class nor stand within one that has it."""
        rows = zip(self.found, self.within, strict=True)
        return [
            a
            for (t, a, _), classes in rows
            if t == tag and name not in [*classes, *a.get("class", "").split()]
        ]

    @property
    def data(self):
        return json.loads(next(text for a, text in self.all("script") if a.get("id") == "data"))


def headings(page):
    return [text for _, text in page.all("h2")]
