"""The sheet of an AnnotationWidget in a bare page: its JavaScript, wired to the widget itself.

What the browser sends goes to the widget's message handler, in this process; what the widget sends
meanwhile goes back. So a test needs no kernel, and sees both sides.
"""

import base64

from playwright.sync_api import Page

from labor_lib.lab.ui.annotate import AnnotationWidget, AnswerSheet

_PAGE = """<!doctype html><style>STYLE</style><body><script type="module">
const state = await toPython({do: "state"});
const handlers = {};
const call = (name, ...given) => (handlers[name] ?? []).forEach((one) => one(...given));
const view = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
let turn = Promise.resolve(); // one message after the other, as in a kernel
const model = {
  get: (name) => state[name],
  on: (names, one) => names.split(" ").forEach((name) => (handlers[name] ??= []).push(one)),
  off: () => {},
  send: (message) => { turn = turn.then(() => exchange(message)); },
};
const exchange = async (message) => {
  const {messages, ...traits} = await toPython(message);
  for (const [told, buffers] of messages) call("msg:custom", told, buffers.map(view));
  Object.assign(state, traits);
  call("change:progress");
};
MODULE
const sheet = create();
sheet.initialize({model});
sheet.render({model, el: document.body});
</script></body>"""


def open_sheet(page: Page, widget: AnnotationWidget, style: str = "") -> None:
    """Show a widget's sheet on a page, once its first question's picture is there.

    style: CSS of the page round it.
    """
    told = []
    widget.sheet.send = lambda message, buffers=(): told.append((message, buffers))

    def to_python(message):
        told.clear()
        if message["do"] != "state":
            widget._receive(widget.sheet, message, [])
        texts = [(m, [base64.b64encode(one).decode() for one in b]) for m, b in told]
        sheet = widget.sheet
        return {"messages": texts, "classes": sheet.classes, "progress": sheet.progress}

    page.expose_function("toPython", to_python)
    module = AnswerSheet._esm.replace("export default", "const create =")
    html = _PAGE.replace("STYLE", AnswerSheet._css + style).replace("MODULE", module)
    page.set_content(html)
    page.locator(".labor-annotate canvas").first.wait_for()
    page.wait_for_timeout(100)
